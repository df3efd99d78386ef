"""Fixtures for an environment that holds the frameworks and nothing of the server.

The noburn and the double that these reach are run by the tests that start this environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import noburn_sdk
import pytest
from noburn_sdk import Allowed, Denied, Gate, _default
from noburn_sdk._exchange import Outcome, Step
from noburn_sdk._requests import Preflight
from noburn_sdk.gate.authority import Authority

from tests.doubles.provider import ProviderDouble
from tests.sdk.frameworks.plane import Customer, Plane


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
def plane() -> Iterator[Plane]:
    """The noburn that runs already."""
    found = Plane(os.environ["NOBURN_TEST_URL"], os.environ["NOBURN_TEST_KEY"])
    yield found
    found.close()


@pytest.fixture
def double() -> ProviderDouble:
    """The double that runs already, forgetting what was before."""
    found = ProviderDouble(int(os.environ["NOBURN_TEST_DOUBLE_PORT"]))
    found.reset()
    return found


@pytest.fixture
def acme(plane: Plane) -> Customer:
    """A customer with enough."""
    return plane.customer()


@pytest.fixture
def poor(plane: Plane) -> Customer:
    """A customer with nothing."""
    return plane.customer("0.000000001")


@pytest.fixture
def gate(plane: Plane, tmp_path: Path) -> Iterator[Gate]:
    """The process's gate, with time-outs that a busy machine does not reach."""
    # What becomes of each call is counted here: a drawn one that fails leaves no hold to count.
    made = Gate(
        plane.secret,
        plane.url,
        outbox=tmp_path / "outbox",
        timeout=30.0,
        retry_timeout=60.0,
        flush_timeout=60.0,
        leases=False,
    )
    made.authority = Counting(made.authority)
    noburn_sdk.configure(gate=made)
    yield made
    noburn_sdk.uninstrument()
    _default.release()


@pytest.fixture
def settled(gate: Gate) -> Callable[[Customer], list[dict[str, Any]]]:
    """What noburn booked for a customer, once everything has arrived."""

    def read(customer: Customer) -> list[dict[str, Any]]:
        assert gate.flush()
        return customer.ledger()

    return read


@pytest.fixture
def questions(gate: Gate) -> Callable[[], int]:
    """How often noburn was asked."""

    def read() -> int:
        assert isinstance(gate.authority, Counting)
        return gate.authority.questions

    return read
