"""The one place that reads the wall clock; everything below it takes `now` as an argument."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Something that tells the time; always UTC and aware."""


def utc_now() -> datetime:
    """Returns the present moment, UTC and aware."""
    return datetime.now(UTC)
