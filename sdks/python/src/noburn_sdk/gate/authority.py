"""Who decides about a call that no lease of this process covers: the server."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from noburn_sdk._exchange import Outcome, Patience, Step, Surroundings, decide
from noburn_sdk._requests import Preflight
from noburn_sdk.results import Allowed, Denied


class Authority(Protocol):
    """Decides about calls as a generator, which neither sends nor sleeps by itself."""

    def decide(self, question: Preflight) -> Generator[Step, Outcome, Allowed | Denied]:
        """Answers a pre-flight. Raises UnavailableError when nothing could be decided in time."""
        ...


class ServerAuthority:
    """Asks the control plane about every call."""

    def __init__(self, patience: Patience, around: Surroundings) -> None:
        self._patience = patience
        self._around = around

    def decide(self, question: Preflight) -> Generator[Step, Outcome, Allowed | Denied]:
        """Answers a pre-flight, waiting a bounded time while only holds in flight stand in its way."""
        return decide(question, self._patience, self._around)
