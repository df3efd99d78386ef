"""The one place that reads the wall clock; everything below it takes `now` as an argument."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Returns the present moment, UTC and aware."""
    return datetime.now(UTC)


def wire_time(milliseconds: int) -> str:
    """An instant, in milliseconds since 1970, as RFC 3339 in UTC."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
