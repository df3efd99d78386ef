"""The rules of the outbox: windows, keys, what is still to be told, what may be repeated. Plain arithmetic.

Usage is told by whole hours (UTC). What a customer owes for a period is cumulative, so a window's measurement is what
is owed up to its end, less what was told for the period before: sub-micro remainders, tiers, late usage and
re-ratings all come out of that one difference.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from billing.domain.sink import KEY_CHARS_MAX, NANO_PER_MICRO, VALUE_DIGITS_MAX

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)

LAG: Final = timedelta(minutes=20)
"""How long after its end a window is closed: the longest life of a hold, and some."""

REPEAT_FOR: Final = timedelta(hours=23)
"""For how long the identical request may be repeated: Stripe keeps keys and identifiers for 24 hours at least."""

COUNTED_AFTER: Final = timedelta(hours=1)
"""How long after its last attempt a measurement that arrived is surely counted in summaries."""

PAST_MAX: Final = timedelta(days=35) - timedelta(hours=12)
"""How old a measurement's moment may be when it is sent, with half a day to spare."""

WARN_AFTER: Final = timedelta(days=28)
"""How old untold usage may get before somebody hears of it: a week is left to mend it."""

DRAFT_MAX: Final = timedelta(hours=72)
"""How long an invoice can stay a draft at Stripe."""

SEQS_MAX: Final = 60
"""Measurements of one window: each has a minute of its own, so that summaries can tell them apart."""

VALUE_MAX: Final = 10**VALUE_DIGITS_MAX - 1
BACKOFF_SECONDS: Final = 5.0
BACKOFF_SECONDS_MAX: Final = 900.0


def hour_of(at: datetime) -> datetime:
    """The hour that a moment is in."""
    return at.replace(minute=0, second=0, microsecond=0)


def closed_until(now: datetime) -> datetime:
    """The end of the last closed window."""
    return hour_of(now - LAG)


def next_close(now: datetime) -> datetime:
    """When the next window will be closed."""
    return closed_until(now) + HOUR + LAG


def month_of(at: datetime) -> tuple[datetime, datetime]:
    """The calendar month of UTC that a moment is in: the period of customers without a subscription."""
    starts_at = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return starts_at, (starts_at + timedelta(days=32)).replace(day=1)


def micro(nano: int) -> int:
    """Whole micro-USD of a cumulative amount, rounded down: the remainder is told with what comes after it."""
    return nano // NANO_PER_MICRO


def measurement_key(*, live: bool, tenant: str, customer: str, meter: str, window: datetime, seq: int) -> str:
    """Identifier and idempotency key of a measurement: `nb:env:tenant:customer:meter:window:seq`.

    Longer ones than Stripe takes are replaced by their digest, so that they stay unique.
    """
    env = "live" if live else "test"
    text = f"nb:{env}:{tenant}:{customer}:{meter}:{window:%Y%m%d%H}:{seq}"
    if len(text) <= KEY_CHARS_MAX:
        return text
    return f"nb:{env}:{hashlib.sha256(text.encode()).hexdigest()}"


def moment_of(*, window: datetime, seq: int) -> datetime | None:
    """When a window's measurement happened, as Stripe is told: inside the window, each in a minute of its own.

    Counted from the window's end, since a subscription may begin in the midst of its first hour. None: there is no
    minute left.
    """
    if seq >= SEQS_MAX:
        return None
    return window + HOUR - MINUTE * (seq + 1)


def parts(value: int) -> list[int]:
    """An amount in pieces that one measurement each can tell; nothing of nothing."""
    found: list[int] = []
    sign = -1 if value < 0 else 1
    left = abs(value)
    while left and len(found) < SEQS_MAX:
        piece = min(left, VALUE_MAX)
        found.append(sign * piece)
        left -= piece
    return found


def may_repeat(*, first_sent_at: datetime | None, now: datetime) -> bool:
    """Whether a measurement's request may (still) be sent as it is."""
    return first_sent_at is None or now - first_sent_at < REPEAT_FOR


def backoff_seconds(*, tries: int, chance: float) -> float:
    """How long to wait after so many tries: doubling from 5 s to 15 min, with up to half of it taken off at random."""
    whole = min(BACKOFF_SECONDS * float(1 << min(tries - 1, 20)), BACKOFF_SECONDS_MAX)
    return whole * (1 - chance / 2)


def tokens_now(*, tokens: int, at: datetime, rate: int, now: datetime) -> int:
    """What is in an account's bucket of `rate` a second, which holds one second's worth."""
    seconds = max(0.0, (now - at).total_seconds())
    return min(rate, tokens + int(seconds * rate))


def owed_by_closed(*, owed_micro: int, carried_in_micro: int, invoiced_micro: int) -> int:
    """What a period whose invoice is final still owes, to be carried into the present one.

    What was owed for its use and what was carried into it, less what its invoice counted. What was told does not
    matter: a measurement that came after the invoice was made is in no invoice.
    """
    return owed_micro + carried_in_micro - invoiced_micro
