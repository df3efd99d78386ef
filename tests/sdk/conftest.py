"""One noburn and one provider double for all tests of the SDK in this process."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import noburn_sdk
import pytest
from noburn_sdk import Allowed, Denied, Gate, _default
from noburn_sdk._exchange import Outcome, Step
from noburn_sdk._requests import Preflight
from noburn_sdk.gate.authority import Authority

from tests.doubles.provider import ProviderDouble
from tests.sdk.plane import Customer, Plane, plane

PATIENT: dict[str, Any] = {"timeout": 30.0, "retry_timeout": 60.0, "flush_timeout": 60.0}
"""Time-outs that a busy machine does not reach."""


class Counting:
    """An authority that counts what it is asked."""

    def __init__(self, inner: Authority) -> None:
        self._inner = inner
        self.questions = 0

    def decide(self, question: Preflight) -> Generator[Step, Outcome, Allowed | Denied]:
        """Answers as the other does."""
        self.questions += 1
        return self._inner.decide(question)


@pytest.fixture(scope="session")
def running_plane() -> Iterator[Plane]:
    with plane() as found:
        yield found


@pytest.fixture(scope="session")
def running_double() -> Iterator[ProviderDouble]:
    with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(running_double: ProviderDouble) -> ProviderDouble:
    running_double.reset()
    return running_double


@pytest.fixture
def acme(running_plane: Plane) -> Customer:
    """A customer with enough."""
    return running_plane.customer()


@pytest.fixture
def gate(running_plane: Plane, tmp_path: Path) -> Iterator[Gate]:
    """The process's gate, onto the running noburn."""
    made = Gate(running_plane.secret, running_plane.url, outbox=tmp_path / "outbox", **PATIENT)
    made.authority = Counting(made.authority)
    noburn_sdk.configure(gate=made)
    yield made
    noburn_sdk.uninstrument()
    _default.release()
