"""One gateway and one provider double for all tests of the SDK in this process.

Django's applications are loaded after this file, so it imports what needs them late.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import noburn_sdk
import pytest
from noburn_sdk import Allowed, Denied, Gate, _default
from noburn_sdk._exchange import Outcome, Step
from noburn_sdk._requests import Preflight
from noburn_sdk.gate.authority import Authority

from tests.doubles.provider import ProviderDouble

if TYPE_CHECKING:
    from tests.sdk.plane import Customer, Plane, Served
    from tests.support.world import Account, World

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
def served(_world: World) -> Iterator[Served]:
    from tests.sdk.plane import Served

    found = Served()
    yield found
    found.close()


@pytest.fixture
def plane(served: Served, alice: Account) -> Plane:
    """A tenant of its own at the running gateway."""
    from tests.sdk.plane import Plane

    return Plane(served.url, alice)


@pytest.fixture(scope="session")
def running_double() -> Iterator[ProviderDouble]:
    with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(running_double: ProviderDouble) -> ProviderDouble:
    running_double.reset()
    return running_double


@pytest.fixture
def acme(plane: Plane) -> Customer:
    """A customer with enough."""
    return plane.customer()


@pytest.fixture
def gate(plane: Plane, tmp_path: Path) -> Iterator[Gate]:
    """The process's gate, onto the running noburn."""
    # What becomes of each call is counted here: a drawn one that fails leaves no hold to count.
    made = Gate(plane.secret, plane.url, outbox=tmp_path / "outbox", leases=False, **PATIENT)
    made.authority = Counting(made.authority)
    noburn_sdk.configure(gate=made)
    yield made
    noburn_sdk.uninstrument()
    _default.release()
