"""Retries and waiting followed step by step, on a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from noburn_sdk._answers import Reply
from noburn_sdk._exchange import Lost, Outcome, Patience, Pause, Send, Step, Surroundings, ask, decide
from noburn_sdk._requests import Preflight, Request
from noburn_sdk.errors import UnavailableError
from noburn_sdk.results import Denied


class World:
    """Answers every Send the same, lets `service_seconds` pass for it, and counts."""

    def __init__(self, outcome: Reply | Lost, *, service_seconds: float = 0.0) -> None:
        self.now = 0.0
        self.sent: list[Request] = []
        self.pauses: list[float] = []
        self.outcome = outcome
        self.service_seconds = service_seconds
        self.around = Surroundings(clock=lambda: self.now, chance=lambda: 1.0)

    def run(self, steps: Generator[Step, Outcome, Any]) -> Any:
        outcome: Outcome = None
        try:
            for _ in range(10_000):
                step = steps.send(outcome)
                if isinstance(step, Send):
                    self.sent.append(step.request)
                    self.now += self.service_seconds
                    outcome = self.outcome
                else:
                    assert isinstance(step, Pause)
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    outcome = None
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the exchange never ended")


def busy(retry_after_ms: int | None) -> Reply:
    body = {"decision": "deny", "reason": "budget_busy", "retry_after_ms": retry_after_ms}
    return Reply(200, {}, json.dumps(body).encode())


LOST = Lost(ConnectionError("gone"))
GET = Request("GET", "/v1/prices")


class TestAsk:
    def test_backs_off_and_stops_at_its_number(self) -> None:
        world = World(LOST)
        with pytest.raises(UnavailableError, match="5 attempts"):
            world.run(ask(GET, Patience(), world.around))
        assert world.pauses == [0.05, 0.1, 0.2, 0.4]

    def test_stops_at_its_time_whatever_its_number(self) -> None:
        world = World(LOST, service_seconds=3)
        with pytest.raises(UnavailableError):
            world.run(ask(GET, Patience(max_retries=1000, retry_timeout=10), world.around))
        assert world.now < 13
        assert len(world.sent) == 4

    def test_waits_at_least_as_long_as_told(self) -> None:
        world = World(Reply(503, {"retry-after": "2"}, b""))
        with pytest.raises(UnavailableError):
            world.run(ask(GET, Patience(max_retries=2), world.around))
        assert all(pause >= 2 for pause in world.pauses)

    def test_keeps_the_cause(self) -> None:
        world = World(LOST)
        with pytest.raises(UnavailableError) as lost:
            world.run(ask(GET, Patience(max_retries=0), world.around))
        assert lost.value.__cause__ is LOST.error


class TestDecide:
    QUESTION = Preflight(model="m", input_tokens=1)

    @pytest.mark.parametrize("service_seconds", [0.0, 2.0])
    @pytest.mark.parametrize("retry_after_ms", [None, 0, 50, 1_500])
    def test_never_waits_beyond_its_limit(self, service_seconds: float, retry_after_ms: int | None) -> None:
        world = World(busy(retry_after_ms), service_seconds=service_seconds)
        decision = world.run(decide(self.QUESTION, Patience(), world.around))
        assert isinstance(decision, Denied)
        assert 6 <= world.now <= 10
        assert len(world.sent) <= 10 / 0.015
        assert len(set(world.sent)) == 1

    def test_asks_the_server_for_no_longer_than_its_limit(self) -> None:
        world = World(busy(10))
        world.run(decide(self.QUESTION, Patience(busy_timeout=0.5), world.around))
        assert json.loads(world.sent[0].body or b"")["wait_ms"] == 500
        assert len(world.sent) == 1

    def test_lets_the_server_wait_ten_seconds_at_most(self) -> None:
        world = World(busy(10))
        world.run(decide(self.QUESTION, Patience(wait_ms=10_000, busy_timeout=60), world.around))
        assert world.sent[0].wait_seconds == 10
