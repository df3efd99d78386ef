"""Spans and metrics, seen by a tracer and a meter of the test's own behind OpenTelemetry's API."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from noburn_sdk import BudgetExceededError, context, telemetry
from noburn_sdk.gate import Asked
from noburn_sdk.integrations.openai.endpoints import CHAT
from noburn_sdk.testing import MemoryGate, MemoryPlane
from noburn_sdk.usage import Usage

BODY: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary"}]}
ASKED = Asked(CHAT, "gpt-4o-mini", BODY, provider="openai")


class Span:
    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self.name, self.attributes = name, dict(attributes)
        self.status: Any = None
        self.ended = 0

    def set_attribute(self, name: str, value: Any) -> None:
        self.attributes[name] = value

    def set_attributes(self, values: dict[str, Any]) -> None:
        self.attributes.update(values)

    def set_status(self, status: Any, text: str) -> None:
        self.status = status

    def end(self) -> None:
        self.ended += 1


class Instruments:
    """A tracer and a meter that remember."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.measured: list[tuple[str, float]] = []

    def start_span(self, name: str, *, kind: Any, attributes: dict[str, Any]) -> Span:
        self.spans.append(Span(name, attributes))
        return self.spans[-1]

    def _instrument(self, name: str, *_: Any) -> Any:
        def measure(value: float, attributes: Any) -> None:
            self.measured.append((name, value))

        return SimpleNamespace(record=measure, add=measure)

    create_histogram = create_counter = _instrument


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Instruments:
    from opentelemetry import metrics, trace

    found = Instruments()
    monkeypatch.setattr(trace, "get_tracer", lambda *_: found)
    monkeypatch.setattr(metrics, "get_meter", lambda *_: found)
    return found


class TestTelemetry:
    def test_tells_of_a_call(self, seen: Instruments) -> None:
        gate = MemoryGate(MemoryPlane())
        gate.admit(ASKED).finish(Usage(8, 2), model="gpt-4o-mini-2024-07-18")
        assert gate.flush(60)
        (span,) = seen.spans
        assert (span.name, span.ended) == ("chat gpt-4o-mini", 1)
        told = dict(span.attributes)
        assert str(told.pop("noburn.hold.id")).startswith("hold_")
        assert told == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.request.max_tokens": 4096,
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.usage.input_tokens": 8,
            "gen_ai.usage.output_tokens": 2,
            "noburn.decision": "allow",
            "noburn.cost.hold_usd": told["noburn.cost.hold_usd"],
            "noburn.outcome": "ok",
        }
        assert "canary" not in repr(span.attributes)
        names = [name for name, _ in seen.measured]
        assert names.count("gen_ai.client.token.usage") == 2
        assert {"noburn.decisions", "noburn.cost", "gen_ai.client.operation.duration"} <= set(names)

    def test_tells_of_a_refusal(self, seen: Instruments) -> None:
        plane = MemoryPlane()
        plane.budget("customer", "acme", "0.0000001")
        with context(customer="acme"), pytest.raises(BudgetExceededError):
            MemoryGate(plane).admit(ASKED)
        (span,) = seen.spans
        assert span.ended == 1
        assert span.status is not None
        assert span.attributes["noburn.reason"] == "budget_exceeded"
        assert span.attributes["error.type"] == "BudgetExceededError"

    def test_is_nothing_where_opentelemetry_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        assert telemetry.load() is None
        plane = MemoryPlane()
        gate = MemoryGate(plane)
        gate.admit(ASKED).finish(Usage(8, 2))
        assert gate.flush(60)
        assert len(plane.settlements) == 1
