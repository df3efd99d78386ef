"""Spans and metrics by OpenTelemetry's GenAI conventions where its API is installed; elsewhere nothing.

Without an SDK set up by the application these cost next to nothing. Neither prompts nor answers are recorded.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from noburn_sdk._version import __version__
from noburn_sdk.results import Allowed, Denied, Settled
from noburn_sdk.usage import Usage

if TYPE_CHECKING:
    from noburn_sdk.gate.endpoints import Asked


def load() -> Telemetry | None:
    """Returns telemetry, or None where OpenTelemetry is not installed."""
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        return None
    return Telemetry(trace, metrics)


class Telemetry:
    """The tracer and the meters of this library."""

    def __init__(self, trace: Any, metrics: Any) -> None:
        self._kind = trace.SpanKind.CLIENT
        self._failed = trace.StatusCode.ERROR
        self._tracer = trace.get_tracer("noburn_sdk", __version__)
        meter = metrics.get_meter("noburn_sdk", __version__)
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of calls.")
        self.duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "Duration of calls.")
        self.decisions = meter.create_counter("noburn.decisions", "{call}", "Calls by what was decided.")
        self.cost = meter.create_counter("noburn.cost", "USD", "What settled calls cost.")

    def begin(self, asked: Asked) -> Span:
        """Starts the span of one attempt."""
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": asked.endpoint.operation,
            "gen_ai.request.model": asked.model,
        }
        if asked.provider:
            attributes["gen_ai.provider.name"] = asked.provider
        name = f"{asked.endpoint.operation} {asked.model}"
        return Span(self, self._tracer.start_span(name, kind=self._kind, attributes=attributes), attributes)

    def settled(self, model: str, result: Settled) -> None:
        """Notes what a call cost, once noburn said so."""
        if result.cost_usd:
            self.cost.add(float(result.cost_usd), {"gen_ai.request.model": model})

    def mark_failed(self, span: Any, why: str) -> None:
        """Sets a span's status to failed."""
        span.set_status(self._failed, why)


class Span:
    """The span of one attempt, from its question to the end of its answer."""

    def __init__(self, telemetry: Telemetry, span: Any, attributes: dict[str, Any]) -> None:
        self._telemetry = telemetry
        self._span = span
        self._attributes = attributes
        self._started = time.monotonic()

    def decided(self, decision: Allowed | Denied | None, *, observed: bool = False) -> None:
        """Notes the decision; None is one that noburn did not make, in an outage."""
        said: dict[str, Any] = {"noburn.decision": "unasked" if decision is None else decision.decision}
        if isinstance(decision, Denied):
            said["noburn.reason"] = decision.reason
            said["noburn.observed"] = observed
        self._telemetry.decisions.add(1, {**self._attributes, **said})
        if isinstance(decision, Allowed):
            if decision.hold_id:
                said["noburn.hold.id"] = decision.hold_id
            if decision.amount_usd is not None:
                said["noburn.cost.hold_usd"] = str(decision.amount_usd)
            if decision.max_output_tokens is not None:
                said["gen_ai.request.max_tokens"] = decision.max_output_tokens
        self._span.set_attributes(said)

    def refused(self, error: BaseException) -> None:
        """Ends the span of a call that was not made."""
        self._span.set_attribute("error.type", type(error).__name__)
        self._telemetry.mark_failed(self._span, type(error).__name__)
        self._span.end()

    def end(self, outcome: str, usage: Usage | None, model: str | None) -> None:
        """Ends the span of a call that was made."""
        if model:
            self._span.set_attribute("gen_ai.response.model", model)
        if usage is not None:
            for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                self._span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
                self._telemetry.tokens.record(count, {**self._attributes, "gen_ai.token.type": kind})
        self._span.set_attribute("noburn.outcome", outcome)
        if outcome == "error":
            self._telemetry.mark_failed(self._span, outcome)
        self._telemetry.duration.record(time.monotonic() - self._started, self._attributes)
        self._span.end()
