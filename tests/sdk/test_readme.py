"""What the SDK's README shows is run, against a gateway and the double; and nothing of a prompt leaves."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import noburn_sdk
import pytest
from noburn_sdk import Gate, _default
from noburn_sdk.testing.plugin import noburn_plane as noburn_plane

from noburn.runtime.embedded import ROOT
from tests.doubles.provider import ProviderDouble
from tests.sdk.calls import ANTHROPIC, CHAT, CLAUDE, OPENAI, client
from tests.sdk.conftest import PATIENT
from tests.sdk.plane import Customer, Plane

pytestmark = pytest.mark.real_db

README = (ROOT / "sdks" / "python" / "README.md").read_text()
LINES_MAX = 10
SECTIONS = {
    title: found[1]
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    if (found := re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
}
CANARY = "canary-3f9a1c"


@pytest.fixture
def _environment(gate: Gate, double: ProviderDouble, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("NOBURN_API_KEY", plane.secret),
        ("NOBURN_BASE_URL", plane.url),
        ("OPENAI_API_KEY", "k"),
        ("OPENAI_BASE_URL", double.openai_url),
        ("ANTHROPIC_API_KEY", "k"),
        ("ANTHROPIC_BASE_URL", double.anthropic_url),
    ):
        monkeypatch.setenv(name, value)


class TestReadme:
    @pytest.mark.usefixtures("_environment")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    @pytest.mark.parametrize("title", ["Two lines", "OpenAI", "Anthropic", "Whom a call is for", "By hand"])
    def test_section_runs(self, gate: Gate, double: ProviderDouble, plane: Plane, title: str) -> None:
        code = SECTIONS[title]
        exec(compile(code, f"README.md: {title}", "exec"), {"__name__": "readme"})
        # The README closes no client; their sockets are to be complained about here and nowhere else.
        gc.collect()
        assert gate.flush()
        rows = plane.account.ledger()
        if title == "Whom a call is for":
            assert double.ledger() == rows == []
            return
        assert [row["kind"] for row in rows] == ["settled"]
        assert len(double.ledger()) == 1

    def test_section_on_tests_runs(self, noburn_plane: Any) -> None:
        scope: dict[str, Any] = {}
        exec(compile(SECTIONS["Tests of your own"], "README.md", "exec"), scope)
        scope["test_tells_a_customer_that_the_budget_is_used_up"](noburn_plane)

    def test_integrations_take_few_lines(self) -> None:
        for title in ("Two lines", "OpenAI", "Anthropic"):
            assert len([line for line in SECTIONS[title].splitlines() if line.strip()]) <= LINES_MAX


class Passing:
    """Stands between the SDK and noburn and keeps every byte that passes."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.seen.append(f"{self.path}\n{self.headers}".encode() + body)
                headers = {
                    k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")
                }
                answer = httpx.request(
                    self.command,
                    upstream + self.path,
                    content=body,
                    headers=headers,
                    timeout=60,
                    trust_env=False,
                )
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = _pass

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def passing(plane: Plane) -> Iterator[Passing]:
    found = Passing(plane.url)
    yield found
    found.close()


class TestPrompts:
    @pytest.mark.parametrize("leases", [False, True])
    def test_never_leave_the_process(
        self, passing: Passing, acme: Customer, double: ProviderDouble, tmp_path: Path, leases: bool
    ) -> None:
        noburn_sdk.configure(acme.plane.secret, passing.url, outbox=tmp_path, leases=leases, **PATIENT)
        messages: Any = [
            {"role": "system", "content": f"{CANARY} system"},
            {"role": "user", "content": [{"type": "text", "text": f"{CANARY} user"}]},
        ]
        schema = {"type": "object", "properties": {f"{CANARY}_property": {"type": "string"}}}
        tool = {"type": "function", "function": {"name": f"{CANARY}_tool", "parameters": schema}}
        turn: Any = [{"role": "user", "content": f"{CANARY} user"}]
        bodies: dict[str, dict[str, Any]] = {
            "chat": {"model": CHAT, "messages": messages, "tools": [tool]},
            "responses": {
                "model": CHAT,
                "input": f"{CANARY} input",
                "instructions": f"{CANARY} instructions",
            },
            "embeddings": {"model": "text-embedding-3-small", "input": [f"{CANARY} input"]},
            "messages": {"model": CLAUDE, "max_tokens": 50, "messages": turn, "system": f"{CANARY} system"},
        }
        try:
            with noburn_sdk.context(customer=acme.name):
                for kind in ("chat", "responses", "embeddings", "messages"):
                    family = OPENAI if kind in OPENAI else ANTHROPIC
                    with client(family[0], "wrap", double, asynchronous=False) as made:
                        resource = made.client
                        for name in {"chat": ("chat", "completions")}.get(kind, (kind,)):
                            resource = getattr(resource, name)
                        resource.create(**bodies[kind])
                        double.control(script=[{"fail_status": 500}])
                        with pytest.raises(Exception, match="500"):
                            resource.create(**bodies[kind])
            assert noburn_sdk.flush(60)
        finally:
            _default.release()
        assert len(double.ledger()) == 8
        if not leases:
            assert len(acme.ledger()) == 8
            assert len([one for one in passing.seen if one.startswith(b"/v1/preflight")]) == 8
        assert [one for one in passing.seen if CANARY.encode() in one] == []
        assert not any(CANARY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
