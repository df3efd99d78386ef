"""Where spending is going: what a window will have spent by its end at the pace so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

SHARE_MIN = 50
"""A window must be through by one part in so many before its pace says anything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What will be spent at the window's end, in the unit of what was; and when the limit is reached, if before that."""

    amount: int
    runs_out_at: datetime | None


def forecast(
    *, spent: int, limit: int | None, starts_at: datetime, ends_at: datetime | None, now: datetime
) -> Forecast | None:
    """Returns a straight line through what was spent since `starts_at`; None where there is no end, or too little past.

    The amount is rounded down, and never less than what is spent already. Without a limit nothing runs out.
    """
    if ends_at is None or not starts_at < now < ends_at:
        return None
    whole, past = _micro(ends_at - starts_at), _micro(now - starts_at)
    if past * SHARE_MIN < whole:
        return None
    amount = max(spent, spent * whole // past)
    if limit is None or spent <= 0 or amount <= limit:
        return Forecast(amount=amount, runs_out_at=None)
    left = max(0, limit - spent)
    return Forecast(amount=amount, runs_out_at=now + timedelta(microseconds=left * past // spent))


def _micro(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
