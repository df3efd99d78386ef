"""The original client, installed under its own name, where its promises are hardest to keep. Prints what came of it."""

from __future__ import annotations

import importlib
import json
import os
import threading
import urllib.request
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_openai import ChatOpenAI

URL, KEY, PROJECT = (os.environ[f"NOBURN_{name}"] for name in ("BASE_URL", "API_KEY", "PROJECT_ID"))
# By name, since in this repository another package has it.
client: Any = importlib.import_module("noburn")
handlers: Any = importlib.import_module("noburn.integrations.langchain")
DELIVERIES = 3
PATIENT = 60.0


def guard(url: str = URL, timeout: float = PATIENT) -> Any:
    """A client that lets nothing through which it could not ask about."""
    return client.NoburnGuard(
        api_key=KEY, project_id=PROJECT, base_url=url, timeout=timeout, on_error="block"
    )


def crowd() -> int:
    """How many of twenty calls at once a budget for four lets through; each that passes is recorded."""
    one, start = guard(), threading.Barrier(20)

    def call(_: int) -> bool:
        start.wait()
        checked = one.check("own-tool", 10, 10, end_user_id="crowd", cost_usd=0.25)
        if not checked.blocked:
            one.record("own-tool", 10, 10, 0.25, was_blocked=False, end_user_id="crowd")
        return not checked.blocked

    with ThreadPoolExecutor(20) as pool:
        passed = sum(pool.map(call, range(20)))
    one.flush(timeout=PATIENT)
    assert one.dropped_event_count == 0
    return passed


def refused() -> str:
    """What LangChain's caller is told where the budget is used up."""
    llm = ChatOpenAI(
        model="gpt-4o-mini",
        callbacks=[handlers.NoburnCallbackHandler(guard(), end_user_id="poor")],
        max_retries=2,
    )
    try:
        llm.invoke("Write a haiku about budgets, please.")
    except client.NoburnBlockedError as error:
        return str(error.block_reason)
    return "let through"


class Slow(BaseHTTPRequestHandler):
    """Passes a request on at once, and its answer only when the client has asked for the last time."""

    count = 0
    last = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        request = urllib.request.Request(f"{URL}{self.path}", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENT) as answer:
            status, told = answer.status, answer.read()
        Slow.count += 1
        if Slow.count == DELIVERIES:
            Slow.last.set()
        Slow.last.wait(PATIENT)
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def slow() -> int:
    """How often an event is delivered whose answers come too late."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asking = guard()
        assert not asking.check("own-tool", 10, 10, end_user_id="slow", cost_usd=0.25).blocked
        telling = guard(f"http://127.0.0.1:{server.server_port}", timeout=0.5)
        telling.record("own-tool", 10, 10, 0.2, was_blocked=False, end_user_id="slow")
        assert Slow.last.wait(PATIENT)
        telling.flush(timeout=PATIENT)
        server.shutdown()
    return Slow.count


def main() -> None:
    """Does all of it."""
    print(json.dumps({"passed": crowd(), "refused": refused(), "deliveries": slow()}))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
