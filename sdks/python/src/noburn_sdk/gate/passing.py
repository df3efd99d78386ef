"""An answer on its way to the caller: read by a meter, and the end of its call. It knows no HTTP library."""

from __future__ import annotations

from noburn_sdk._config import logger
from noburn_sdk.gate.held import HeldCall
from noburn_sdk.gate.meters import BodyMeter, Meter
from noburn_sdk.results import Denied

EVENT_STREAMS = ("text/event-stream", "application/vnd.amazon.eventstream")


def is_events(content_type: str) -> bool:
    """Says whether an answer of this type is a stream of events."""
    return content_type.lower().startswith(EVENT_STREAMS)


def meter_of(held: HeldCall, *, events: bool) -> Meter:
    """Returns what reads the answer of this call."""
    endpoint = held.asked.endpoint
    if endpoint.meter is not None and events:
        return endpoint.meter(held.model, held.tokens_max is not None)
    return BodyMeter(endpoint.read)


class Passing:
    """Feeds what passes to a meter and ends the call by what it read. No method raises."""

    def __init__(self, meter: Meter, held: HeldCall) -> None:
        self.meter = meter
        self.held = held
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Takes bytes; returns those to give on."""
        try:
            return self.meter.feed(data)
        except Exception:
            # A meter that cannot read this must not stand between the caller and the answer.
            logger.exception("a stream of %s cannot be read", self.held.asked.endpoint.name)
            return data

    def finish(self) -> bytes:
        """Ends the call with the end of the stream; returns what is left to give on."""
        self.ended = True
        try:
            rest = self.meter.end()
        except Exception:
            logger.exception("a stream of %s cannot be read", self.held.asked.endpoint.name)
            rest = b""
        self.held.meter_ended(self.meter)
        return rest

    def cut(self) -> None:
        """Ends the call with what was seen."""
        if self.held.open:
            self.held.meter_cut(self.meter)

    def is_beyond(self) -> bool:
        """Whether the stream has used up its hold."""
        most = self.held.tokens_max
        return most is not None and not self.meter.finished and self.meter.output_tokens > most

    def beyond(self) -> Denied:
        """What is told of a stream that is cut at its hold."""
        allowed = self.held.allowed
        return Denied(
            reason="call_too_large",
            estimate_usd=allowed.amount_usd if allowed is not None else None,
            detail=f"the stream was cut after {self.held.tokens_max} tokens, for which its hold pays",
        )
