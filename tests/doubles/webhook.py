"""A receiver of webhooks: a real HTTP server in a thread, that answers as told and keeps what it got."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from standardwebhooks.webhooks import Webhook

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Received:
    """One request as it came in. Header names are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> Any:
        """Verifies as a receiver does, with the package that receivers use. Raises WebhookVerificationError."""
        return Webhook(secret).verify(self.body, dict(self.headers))

    def is_signed_by(self, secret: str) -> bool:
        """The same for a time that is not now."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        wanted = Webhook(secret).sign(self.id, at, self.body.decode())
        return wanted in self.headers["webhook-signature"].split(" ")


@dataclass
class WebhookReceiver:
    """Answers each request with `status`, `headers` and `body`, or with what `answers` still holds, in order.

    While `held` the answer is kept back until `release` is set. With a certificate it speaks TLS.
    """

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    answers: list[int] = field(default_factory=list)
    drip: bool = False
    context: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> WebhookReceiver:
        self.arrived = threading.Condition()
        self.release = threading.Event()
        self.release.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            # Many connect at once; the default keeps five waiting and lets the rest try again.
            request_queue_size = 256
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://127.0.0.1:{self.port}/hooks?for=noburn"

    def hold(self) -> None:
        """Keeps answers back from now on."""
        self.release.clear()

    def wait_for(self, count: int) -> Sequence[Received]:
        """Returns when so many requests have arrived. Raises AssertionError when they do not."""
        return self.wait_until(lambda received: len(received) >= count)

    def came(self, count: int, *, seconds: float) -> bool:
        """Waits so long at most for so many requests; tells whether they came."""
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.received) >= count, seconds)

    def wait_until(self, wanted: Callable[[Sequence[Received]], bool]) -> Sequence[Received]:
        """Returns when what arrived is as wanted. Raises AssertionError when it never is."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: wanted(self.received), WAIT_SECONDS), self.received
            return list(self.received)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self.arrived:
            self.received.append(Received(request.path, headers, body))
            status = self.answers.pop(0) if self.answers else self.status
            self.arrived.notify_all()
        self.release.wait(WAIT_SECONDS)
        request.send_response(status)
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(self.body)))
        request.end_headers()
        if not self.drip:
            request.wfile.write(self.body)
            return
        for at in range(len(self.body)):
            request.wfile.write(self.body[at : at + 1])
            request.wfile.flush()
            self.dripping.wait(0.1)

    @property
    def dripping(self) -> threading.Event:
        """Never set: waiting for it takes its time-out."""
        return threading.Event()
