"""A real HTTP server that answers by a script, and both clients behind one face."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from noburn_sdk import AsyncNoburn, Noburn

AUTHORIZATION = "nba1.k1.aG9sZA.c2ln"


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]


@dataclass(frozen=True)
class Answer:
    """What to say; `drop` closes the connection without a word."""

    status: int = 200
    value: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    drop: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    scripted: Scripted


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.scripted.next(Seen(self.command, self.path, headers, raw))
        if answer.drop:
            self.close_connection = True
            return
        body = answer.value if isinstance(answer.value, bytes) else json.dumps(answer.value).encode()
        kind = "application/json" if answer.status < 400 else "application/problem+json"
        self.send_response(answer.status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *answer.headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if answer.status != 304 else b"")

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: what arrived is in `seen`."""


class Scripted:
    """A server on 127.0.0.1 whose answers are queued by the test; an empty queue is a failure of the test."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._script: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.scripted = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def next(self, request: Seen) -> Answer:
        with self._lock:
            self.seen.append(request)
            if self._script:
                return self._script.popleft()
        return Answer(500, {"title": "nothing scripted", "status": 500})

    def answers(self, value: Any, status: int = 200, **headers: str) -> Scripted:
        named = tuple((name.replace("_", "-"), text) for name, text in headers.items())
        self._script.append(Answer(status, value, named))
        return self

    def drops(self) -> Scripted:
        self._script.append(Answer(drop=True))
        return self

    def allows(self, **changes: Any) -> Scripted:
        hold = {"id": "hold_1", "amount_usd": "0.00048", "expires_at": "2026-11-22T10:02:00Z"}
        budget = {
            "id": "bud_1",
            "scope": "customer",
            "limit_usd": "10",
            "remaining_usd": "9.99952",
            "resets_at": "2026-12-01T00:00:00Z",
        }
        allowed = {
            "decision": "allow",
            "authorization": AUTHORIZATION,
            "hold": hold,
            "model": "gpt-4o-mini",
            "max_output_tokens": 500,
            "budgets": [budget],
            "warnings": [],
        }
        return self.answers(allowed | changes)

    def denies(self, reason: str = "budget_exceeded", **changes: Any) -> Scripted:
        denied = {
            "decision": "deny",
            "reason": reason,
            "estimate_usd": "0.00048",
            "fits_max_output_tokens": 12,
            "budget": {
                "id": "bud_1",
                "scope": "customer",
                "limit_usd": "10",
                "remaining_usd": "0.0001",
                "resets_at": "2026-12-01T00:00:00Z",
            },
            "alternatives": [{"model": "gpt-4.1-nano", "estimate_usd": "0.0001"}],
        }
        return self.answers(denied | changes)

    def settles(self, **changes: Any) -> Scripted:
        settled = {"cost_usd": "0.0003", "released_usd": "0.00018", "overrun_usd": "0", "replayed": False}
        return self.answers(settled | changes)

    def fails(self, status: int, kind: str, **changes: Any) -> Scripted:
        problem = {
            "type": f"https://noburn.example/problems/{kind}",
            "title": kind.replace("_", " ").capitalize(),
            "status": status,
            "detail": "As scripted.",
            "instance": "urn:request:req_9",
        }
        headers = changes.pop("headers", {})
        return self.answers(problem | changes, status, **headers)


class Blocking:
    """AsyncNoburn behind the face of Noburn, so that one test says what both must do."""

    def __init__(self, client: AsyncNoburn, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._loop.run_until_complete(method(*args, **options))


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def sync_client(server: Scripted) -> Iterator[Noburn]:
    with Noburn("nb_live_test", server.url, busy_timeout=5, wait_ms=100) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: Scripted) -> Iterator[Any]:
    """Either client; the async one is driven to its end at each call."""
    if request.param == "sync":
        yield request.getfixturevalue("sync_client")
        return
    loop = asyncio.new_event_loop()
    inner = AsyncNoburn("nb_live_test", server.url, busy_timeout=5, wait_ms=100)
    yield Blocking(inner, loop)
    loop.run_until_complete(inner.aclose())
    loop.close()
