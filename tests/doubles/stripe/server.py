"""The double over HTTP/1.1: a thread for each connection, so that requests may wait beside each other."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.doubles.stripe.controls import Controls
from tests.doubles.stripe.engine import Engine, Reply
from tests.doubles.stripe.failures import Failure

BODY_MAX = 1_000_000
CONTROL = "/__control/"


class Server(ThreadingHTTPServer):
    """Serves one engine on 127.0.0.1."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.engine = Engine()
        self.controls = Controls(self.engine.world)
        self.closing = threading.Event()
        self.broken: list[str] = []
        """Defects of the double itself: an answer that Stripe could not have given."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left, or an answer cut on purpose, is no news."""

    def end(self) -> None:
        """Stops serving; requests that hang are let go."""
        self.closing.set()
        self.controls.close()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Reads a request, writes what the engine says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_MAX:
            self.close_connection = True
            self._write(413, {"error": {"type": "invalid_request_error", "message": "too large"}}, {})
            return
        body = self.rfile.read(length)
        if self.path.startswith(CONTROL):
            self._control(body)
            return
        if self.path == "/healthz":
            self._write(200, {"ok": True}, {})
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            reply = self.server.engine.handle(self.command, self.path, headers, body)
        except Exception as error:
            # Whatever it is, no test may take it for Stripe's.
            self.server.broken.append(f"{self.command} {self.path}: {type(error).__name__}: {error}")
            said = f"the double is broken: {type(error).__name__}: {error}"
            reply = Reply(501, {"error": {"type": "api_error", "message": said}})
        if reply.wait:
            self.server.closing.wait(reply.wait)
        if reply.close:
            self.close_connection = True
            return
        self._write(reply.status, reply.body, reply.headers)

    def _control(self, body: bytes) -> None:
        command = self.path.removeprefix(CONTROL)
        try:
            message = json.loads(body or b"{}")
            if command == "broken":
                self._write(200, {"result": list(self.server.broken)}, {})
                return
            result = self.server.controls.run(command, message)
        except Failure as failure:
            self._write(failure.status, failure.body, {})
            return
        except (ValueError, TypeError, KeyError) as error:
            said = f"{type(error).__name__}: {error}"
            self._write(400, {"error": {"type": "control", "message": said}}, {})
            return
        self._write(200, {"result": result}, {})

    def _write(self, status: int, body: Any, headers: dict[str, str]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(encoded)
