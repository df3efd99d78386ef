"""Starts the double as a process of its own and talks to its controls."""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any

from tests.doubles.program import Program, free_port


class ProviderDouble:
    """A running double. Use it as a context manager, or call `start` and `stop`.

    `openai_url` goes to `openai.OpenAI(base_url=…)`, `anthropic_url` to `anthropic.Anthropic(base_url=…)`.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self._program = Program("the provider double", "tests.doubles.provider", self.port)

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
        self._program.start(lambda: self._ask("GET", "/healthz"))
        return self

    def stop(self) -> None:
        """Ends the process, gently and then not."""
        self._program.stop()

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
