"""Windows of time in which budgets count: calendar periods of a zone, as half-open UTC intervals.

Windows of one kind, zone and anchor tile time: each instant lies in exactly one. Days and longer begin at the
first instant whose local clock shows the boundary or later, so a day may last 23 or 25 hours, a clock that
skips midnight (or a whole day) loses nothing, and one that shows midnight twice starts the day once. Hours are
60 minutes, except beside the rare change of clocks that is no whole number of hours.

The answer for one (kind, zone, anchor) holds until `ends_at`, so a caller may keep it until then.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from budgets.domain.policy import WindowKind

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_MIDNIGHT: Final = time()

_zone = lru_cache(maxsize=1024)(ZoneInfo)


class Window(NamedTuple):
    """The interval [starts_at, ends_at) in UTC; without an end when `ends_at` is None."""

    starts_at: datetime
    ends_at: datetime | None


FOREVER: Final = Window(EPOCH, None)


def window_at(kind: WindowKind, *, now: datetime, zone: str, anchor_day: int | None) -> Window:
    """Returns the window of this kind that holds `now`, which must be aware.

    `anchor_day` (1 to 31) is the day of the month on which months and quarters begin, the last day in a month
    that is shorter; other kinds ignore it. Quarters begin in January, April, July and October. Weeks begin on
    Monday. Raises ZoneInfoNotFoundError for an unknown zone and ValueError for a naive time or a bad anchor.
    """
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    if kind is WindowKind.TOTAL or kind is WindowKind.RUN:
        return FOREVER
    now = now.astimezone(UTC)
    if kind is WindowKind.MINUTE:
        starts_at = now.replace(second=0, microsecond=0)
        return Window(starts_at, starts_at + _MINUTE)
    tz = _zone(zone)
    if kind is WindowKind.HOUR:
        return _hour_at(now, tz)
    anchor = 1 if anchor_day is None else anchor_day
    if not 1 <= anchor <= 31:
        raise ValueError("anchor_day must be between 1 and 31")
    begins, follows = _CALENDAR[kind]
    first = begins(now.astimezone(tz).date(), anchor)
    starts_at, after = _first_instant(first, tz), follows(first, anchor)
    ends_at = _first_instant(after, tz)
    # A clock put back over midnight shows yesterday's date again, after today has begun.
    while ends_at <= now:
        starts_at, after = ends_at, follows(after, anchor)
        ends_at = _first_instant(after, tz)
    return Window(starts_at, ends_at)


def _first_instant(day: date, tz: ZoneInfo) -> datetime:
    """Returns the first instant at which the local clock shows 00:00 of `day`, or later."""
    local = datetime.combine(day, _MIDNIGHT, tz)  # fold=0: of two midnights the first.
    instant = local.astimezone(UTC)
    wanted = local.replace(tzinfo=None)
    if _clock(instant, tz) == wanted:
        return instant
    # The clock skips this midnight: the first instant is the jump itself, somewhere between the two readings.
    early = local.replace(fold=1).astimezone(UTC)
    return _bisect(early, instant, lambda moment: _clock(moment, tz) >= wanted)


def _hour_at(now: datetime, tz: ZoneInfo) -> Window:
    """Returns the hour of the local clock; a change of clocks by part of an hour cuts it short."""
    phase = _phase(now, tz)
    starts_at = (now + phase).replace(minute=0, second=0, microsecond=0) - phase
    ends_at = starts_at + _HOUR
    if _phase(starts_at, tz) != phase:
        starts_at = _bisect(starts_at, now, lambda moment: _phase(moment, tz) == phase)
    if _phase(ends_at - _SECOND, tz) != phase:
        ends_at = _bisect(now, ends_at, lambda moment: _phase(moment, tz) != phase)
    return Window(starts_at, ends_at)


def _clock(moment: datetime, tz: ZoneInfo) -> datetime:
    return moment.astimezone(tz).replace(tzinfo=None)


def _phase(moment: datetime, tz: ZoneInfo) -> timedelta:
    """Returns the part of the zone's offset that is no whole hour."""
    offset = moment.astimezone(tz).utcoffset()
    assert offset is not None
    return offset % _HOUR


def _bisect(low: datetime, high: datetime, passed: Callable[[datetime], bool]) -> datetime:
    """Returns the first whole second in (low, high] that passed; clocks change on whole seconds."""
    low, high = low.replace(microsecond=0), high.replace(microsecond=0)
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if passed(middle):
            high = middle
        else:
            low = middle
    return high


def _anchored(year: int, month: int, anchor: int) -> date:
    """Returns the anchor's day in a month, its last day when the month is shorter; month 13 is next January."""
    year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return date(year, month, min(anchor, monthrange(year, month)[1]))


def _day_of(day: date, _anchor: int) -> date:
    return day


def _next_day(day: date, _anchor: int) -> date:
    return day + _DAY


def _week_of(day: date, _anchor: int) -> date:
    return day - timedelta(days=day.weekday())


def _next_week(day: date, _anchor: int) -> date:
    return day + 7 * _DAY


def _month_of(day: date, anchor: int) -> date:
    first = _anchored(day.year, day.month, anchor)
    return first if first <= day else _anchored(day.year, day.month - 1, anchor)


def _next_month(first: date, anchor: int) -> date:
    return _anchored(first.year, first.month + 1, anchor)


def _quarter_of(day: date, anchor: int) -> date:
    month = (day.month - 1) // 3 * 3 + 1
    first = _anchored(day.year, month, anchor)
    return first if first <= day else _anchored(day.year, month - 3, anchor)


def _next_quarter(first: date, anchor: int) -> date:
    return _anchored(first.year, first.month + 3, anchor)


_Step = Callable[[date, int], date]
_CALENDAR: Final[dict[WindowKind, tuple[_Step, _Step]]] = {
    WindowKind.DAY: (_day_of, _next_day),
    WindowKind.WEEK: (_week_of, _next_week),
    WindowKind.MONTH: (_month_of, _next_month),
    WindowKind.QUARTER: (_quarter_of, _next_quarter),
}
