"""What billing needs of whoever invoices customers, and how that may fail. Today it is Stripe; nothing here says so.

An amount of usage is an integer of micro-USD. A request that is repeated with its key is done once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

MICRO_PER_USD: Final = 10**6
NANO_PER_MICRO: Final = 1000
VALUE_DIGITS_MAX: Final = 15
"""The most digits of one value: a thousand million USD in micro-USD."""

KEY_CHARS_MAX: Final = 100
"""The most characters of a measurement's key."""


class SinkError(Exception):
    """A request that did not do what it should. The text may be shown: it holds no key and no body."""


class SinkUnavailable(SinkError):
    """No answer, or none that says what happened: it may have been done. Only the identical request may be repeated."""


class SinkBusy(SinkError):
    """Too many requests for now: surely not done. `retry_after_seconds` is what was asked for, if anything.

    `narrow`: only what this request is about is busy; others may go out.
    """

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, narrow: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.narrow = narrow


class SinkRefused(SinkError):
    """Surely not done, and a repetition will not be either. `code` is the sink's word for why."""

    def __init__(self, message: str, *, code: str = "", param: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.status = status


class SinkMissing(SinkRefused):
    """What was asked for is not there."""


class SinkUnauthorized(SinkRefused):
    """The key is not valid (any more), or may not do this."""


class SinkConflict(SinkRefused):
    """The key of the request was used before, for other content."""


class AlreadyTaken(SinkRefused):
    """A measurement with this key is there already: what was to be done is done."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """So much use by one customer at one moment. `key` is unique for ever and goes with every repetition."""

    key: str
    meter_event: str
    customer: str
    value_micro: int
    at: datetime


class UsageSink(Protocol):
    """Takes measurements, and tells what it counted."""

    def push(self, parcel: Parcel) -> None:
        """Hands one over, once however often it is repeated. Raises SinkError; AlreadyTaken is a success told late."""

    def measured(self, *, meter_id: str, customer: str, starts_at: datetime, until: datetime) -> int:
        """What was counted for a customer in a span of whole minutes, in micro-USD. Counting lags. Raises SinkError."""
