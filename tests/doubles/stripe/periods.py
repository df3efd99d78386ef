"""Billing periods: calendar steps from an anchor, the day kept inside short months."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

from tests.doubles.stripe.world import Object


def step(anchor: int, recurring: Object, number: int) -> int:
    """Returns the anchor moved on by so many intervals."""
    count = recurring["interval_count"] * number
    at = datetime.fromtimestamp(anchor, UTC)
    match recurring["interval"]:
        case "day":
            moved = at + timedelta(days=count)
        case "week":
            moved = at + timedelta(weeks=count)
        case "month":
            moved = _months(at, count)
        case _:
            moved = _months(at, 12 * count)
    return int(moved.timestamp())


def _months(at: datetime, count: int) -> datetime:
    months = at.year * 12 + at.month - 1 + count
    year, month = months // 12, months % 12 + 1
    return at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))


def anchor_of(config: Object, now: int) -> int:
    """Returns the next time that an anchor's configuration means: a day of the month, at a time of day.

    A part that is left out is the present's, as Stripe has it.
    """
    at = datetime.fromtimestamp(now, UTC)
    parts = {name: config[name] for name in ("hour", "minute", "second") if config.get(name) is not None}
    for month in range(14):
        day = config["day_of_month"]
        first = _months(at.replace(day=1, **parts), month)
        if config.get("month") is not None and first.month != config["month"]:
            continue
        found = first.replace(day=min(day, calendar.monthrange(first.year, first.month)[1]))
        if found.timestamp() > now:
            return int(found.timestamp())
    raise ValueError("no such day")


def following(anchor: int, recurring: Object, now: int) -> int:
    """Returns the first boundary after a time, whether the anchor lies before it or after it."""
    number = 0
    if anchor > now:
        while step(anchor, recurring, number - 1) > now:
            number -= 1
    else:
        while step(anchor, recurring, number) <= now:
            number += 1
    return step(anchor, recurring, number)
