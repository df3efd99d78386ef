"""Starts the double as a process of its own and talks to its controls."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 20


def free_port() -> int:
    """Returns a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ProviderDouble:
    """A running double. Use it as a context manager, or call `start` and `stop`.

    `openai_url` goes to `openai.OpenAI(base_url=…)`, `anthropic_url` to `anthropic.Anthropic(base_url=…)`.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's clients."""
        return self.url

    def start(self) -> ProviderDouble:
        """Starts the process and returns once it answers. Raises RuntimeError when it does not."""
        command = [sys.executable, "-m", "tests.doubles.provider", "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the provider double ended at once with {self._process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._ask("GET", "/healthz")
                return self
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        self.stop()
        raise RuntimeError(f"the provider double did not answer within {START_SECONDS} s")

    def stop(self) -> None:
        """Ends the process, gently and then not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> ProviderDouble:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def control(self, **settings: Any) -> dict[str, Any]:
        """Sets fields of `controls.Plan`, `seed` or `script`. Raises ValueError naming every bad one."""
        settled: dict[str, Any] = self._ask("POST", "/__control", settings)
        return settled

    def reset(self) -> None:
        """Goes back to the defaults and forgets every call."""
        self._ask("POST", "/__control", {"reset": True})

    def ledger(self, *, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Returns the calls that reached the double, oldest first."""
        query = f"?after={after}" + (f"&limit={limit}" if limit is not None else "")
        entries: list[dict[str, Any]] = self._ask("GET", f"/__ledger{query}")
        return entries

    def summary(self) -> dict[str, Any]:
        """Returns the totals of every call since the last reset."""
        totals: dict[str, Any] = self._ask("GET", "/__ledger/summary")
        return totals

    def _ask(self, method: str, path: str, message: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            body = None if message is None else json.dumps(message)
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            read = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 400:
            raise ValueError(f"{method} {path}: {read}")
        return read
