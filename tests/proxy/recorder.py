"""An upstream that keeps what it was sent, byte by byte, and answers what it is told."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WAIT_SECONDS = 60


@dataclass
class Seen:
    """One request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one value of a header, None where it is missing."""
        found = [value for one, value in self.headers if one.lower() == name]
        assert len(found) <= 1, found
        return found[0] if found else None


@dataclass
class Told:
    """An answer: a status, headers, and the pieces of its body.

    None as a piece ends the connection; an event is waited for before the next piece is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    pieces: Sequence[bytes | threading.Event | None] = field(default_factory=lambda: [b"{}"])
    chunked: bool = False


class Recorder:
    """The upstream, in threads of its own."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.script: list[Told] = []
        self.answer: Told | Callable[[Seen], Told] = Told()
        recorder = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while self._one():
                    pass

            def _one(self) -> bool:
                line = self.rfile.readline().decode("latin-1").strip()
                if not line:
                    return False
                headers = []
                while text := self.rfile.readline().decode("latin-1").rstrip("\r\n"):
                    name, _, value = text.partition(":")
                    headers.append((name, value.strip()))
                length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
                seen = Seen(line, headers, self.rfile.read(length))
                recorder.seen.append(seen)
                told = recorder.script.pop(0) if recorder.script else recorder.answer
                return self._answer(told(seen) if callable(told) else told)

            def _answer(self, told: Told) -> bool:
                head = f"HTTP/1.1 {told.status} X\r\n"
                if told.chunked:
                    head += "transfer-encoding: chunked\r\n"
                else:
                    head += f"content-length: {sum(len(one) for one in told.pieces if isinstance(one, bytes))}\r\n"
                head += "".join(f"{name}: {value}\r\n" for name, value in told.headers.items())
                self.wfile.write(head.encode() + b"\r\n")
                for piece in told.pieces:
                    if piece is None:
                        return False
                    if isinstance(piece, threading.Event):
                        assert piece.wait(WAIT_SECONDS)
                        continue
                    if told.chunked:
                        piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
                    self.wfile.write(piece)
                    self.wfile.flush()
                if told.chunked:
                    self.wfile.write(b"0\r\n\r\n")
                return True

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Says nothing: connections that break are what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Forgets everything."""
        self.seen.clear()
        self.script.clear()
        self.answer = Told()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
