"""Periods that pages and their figures ask about by a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from billing.domain.card_timelines import start_of_hour

PERIODS: Final = (
    ("last-month", "Last month"),
    ("this-month", "This month so far"),
    ("30-days", "Last 30 days"),
)


def period_of(name: str, now: datetime) -> tuple[datetime, datetime]:
    """The period of a name in PERIODS, the first one for another name; whole hours, as charges are made of."""
    hour = start_of_hour(now.astimezone(UTC))
    month = hour.replace(day=1, hour=0)
    if name == "this-month":
        return month, max(hour, month + timedelta(hours=1))
    if name == "30-days":
        return hour - timedelta(days=30), hour
    return (month - timedelta(days=1)).replace(day=1), month
