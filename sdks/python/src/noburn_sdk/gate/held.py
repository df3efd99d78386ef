"""A call that was admitted: what to send, and the ways in which its hold ends, each of them once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from noburn_sdk import _calls, _requests
from noburn_sdk._config import logger
from noburn_sdk.errors import NoburnError
from noburn_sdk.estimate import Estimate
from noburn_sdk.results import Allowed, Denied
from noburn_sdk.settling.settler import Resolution
from noburn_sdk.usage import Usage
from noburn_sdk.usage import read as read_field

if TYPE_CHECKING:
    from noburn_sdk.gate.endpoints import Asked
    from noburn_sdk.gate.meters import Meter
    from noburn_sdk.telemetry import Span


class HeldCall:
    """An admitted attempt. Send `body` to the provider, then end it by exactly one of the methods.

    They return at once, raise nothing, and do nothing the second time: settlements go out in the background.
    Without an authorization (observed, or let through in an outage) they only tell telemetry.
    """

    def __init__(
        self,
        asked: Asked,
        body: Mapping[str, Any],
        *,
        put: Callable[[Resolution], None],
        allowed: Allowed | None = None,
        denied: Denied | None = None,
        estimate: Estimate | None = None,
        tokens_max: int | None = None,
        span: Span | None = None,
        after: Callable[[Usage | None], None] | None = None,
    ) -> None:
        self.asked = asked
        self.body = body
        self.allowed = allowed
        self.denied = denied
        """What refused it, where the gate only observes."""
        self.estimate = estimate
        self.tokens_max = tokens_max
        """Output beyond which a stream is to be cut at its hold; None for never."""
        self._put = put
        self._span = span
        self._after = after
        self._started = time.monotonic()
        self._pid = os.getpid()
        # Taking the one item is atomic, also for a finalizer that interrupts this very thread.
        self._turn = [True]

    @property
    def model(self) -> str:
        """The model to call."""
        return self.allowed.model if self.allowed is not None and self.allowed.model else self.asked.model

    @property
    def open(self) -> bool:
        """Whether nothing has ended it yet."""
        return bool(self._turn)

    def settle(self, answer: Any) -> None:
        """Ends it with the provider's whole answer, whose usage is read."""
        read, usage, model = self.asked.endpoint.read, None, None
        try:
            if isinstance(answer, Usage):
                usage = answer
            elif answer is not None and read is not None:
                usage = read(answer)
            found = read_field(answer, "model")
            model = found if isinstance(found, str) else None
        except NoburnError as error:
            logger.warning(
                "%s: its usage cannot be read, so its hold is presumed spent: %s", self._name, error
            )
        self.finish(usage, model=model)

    def finish(
        self, usage: Usage | None, *, outcome: _requests.Outcome = "ok", model: str | None = None
    ) -> None:
        """Ends it with what was used; None presumes all of the hold spent, until somebody knows better."""
        if not self._take():
            return
        elapsed = int((time.monotonic() - self._started) * 1000)
        if self.allowed is not None and self.allowed.authorization:
            try:
                item = _requests.Settlement(self.allowed, usage, model, outcome, elapsed)
                self._put(Resolution("settle", self._key, item.to_wire()))
            except NoburnError as error:
                logger.warning("%s: could not be settled: %s", self._name, error)
        self._end(outcome, usage, model)

    def meter_ended(self, meter: Meter) -> None:
        """Ends it with what a stream said that came to its end, or with what was seen of it."""
        usage = meter.usage() if meter.finished else self._seen(meter)
        self.finish(usage, outcome="error" if meter.failed else "ok", model=meter.model)

    def meter_cut(self, meter: Meter) -> None:
        """Ends it with what was seen of a stream that was cut, closed, cancelled or abandoned."""
        if meter.finished:
            self.finish(meter.usage(), model=meter.model)
        else:
            self.finish(self._seen(meter), outcome="error" if meter.failed else "cut", model=meter.model)

    def _seen(self, meter: Meter) -> Usage | None:
        try:
            return meter.seen(self.estimate)
        except Exception:
            logger.exception("%s: what was seen of it cannot be counted", self._name)
            return None

    def void(self) -> None:
        """Ends it as never made or never billed: the hold is freed."""
        if not self._take():
            return
        if self.allowed is not None and self.allowed.authorization:
            self._put(Resolution("void", self._key, {"authorization": self.allowed.authorization}))
        self._end("error", None, None, voided=True)

    def failed(self, error: BaseException) -> None:
        """Ends it by an exception of the attempt: voided where the request never left or was refused."""
        if _calls.never_left(error):
            self.void()
        else:
            # After an error of the transport, or of the caller's own, the provider may go on and bill.
            self.finish(None, outcome="cut")

    def _take(self) -> bool:
        if os.getpid() != self._pid:
            # A fork's copy: the parent ends it.
            return False
        try:
            return self._turn.pop()
        except IndexError:
            return False

    def _end(self, outcome: str, usage: Usage | None, model: str | None, *, voided: bool = False) -> None:
        try:
            if self._after is not None:
                self._after(Usage() if voided else usage)
            if self._span is not None:
                self._span.end(outcome, usage, model)
        except Exception:
            logger.exception("telemetry failed")

    @property
    def _key(self) -> str:
        assert self.allowed is not None
        return self.allowed.hold_id or str(self.allowed.authorization)

    @property
    def _name(self) -> str:
        return f"{self.asked.endpoint.name} ({self.model})"
