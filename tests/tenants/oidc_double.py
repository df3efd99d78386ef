"""A stand-in for a provider of OpenID Connect: discovery, a person who always agrees, tokens."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Provider(ThreadingHTTPServer):
    """One person signs in at it; `asked` is what the token endpoint was sent."""

    def __init__(self, email: str, *, verified: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.claims = {"sub": f"sub-{email}", "email": email, "email_verified": verified}
        self.asked: list[dict[str, list[str]]] = []


class _Answers(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        url, path = self.server.url, urlsplit(self.path).path
        if path == "/.well-known/openid-configuration":
            self._tell(
                {
                    "issuer": url,
                    "authorization_endpoint": f"{url}/authorize",
                    "token_endpoint": f"{url}/token",
                    "userinfo_endpoint": f"{url}/userinfo",
                    "jwks_uri": f"{url}/keys",
                }
            )
        elif path == "/userinfo":
            self._tell(self.server.claims)
        else:
            self._tell({"keys": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append(parse_qs(body))
        parts = [{"alg": "none"}, {**self.server.claims, "iss": self.server.url, "aud": "noburn"}]
        packed = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in parts]
        self._tell({"access_token": "a", "token_type": "Bearer", "id_token": ".".join([*packed, ""])})

    def _tell(self, what: Any) -> None:
        body = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def provider(email: str, *, verified: bool = True) -> Iterator[Provider]:
    """A provider that runs meanwhile."""
    server = Provider(email, verified=verified)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
