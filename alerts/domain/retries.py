"""When a delivery is tried again, and when a destination is given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

RETRY_SECONDS: Final = (15, 60, 240, 960, 3_840, 15_360, 28_800, 36_000)
"""The pause after each failed attempt: nine attempts in all, over about 24 hours."""

ATTEMPTS_MAX: Final = len(RETRY_SECONDS) + 1
JITTER: Final = 0.2
"""Pauses vary by as much up and down, so that what failed together does not come back together."""

RETRY_AFTER_SECONDS_MAX: Final = 3_600
DISABLE_AFTER: Final = timedelta(days=3)
"""A destination is switched off when nothing got through for so long …"""

DISABLE_FAILURES_MIN: Final = 10
"""… and at least as many attempts failed one after the other: a single one may lie days back."""


def next_attempt_at(
    *, failures: int, now: datetime, chance: float, retry_after_seconds: int | None
) -> datetime | None:
    """Returns when to try again after `failures` (1 or more) attempts; None: not again.

    `chance` is from 0 to 1 and decides the jitter. A server may ask for a longer pause, up to an hour.
    """
    if failures >= ATTEMPTS_MAX:
        return None
    pause = RETRY_SECONDS[failures - 1] * (1 + JITTER * (2 * chance - 1))
    if retry_after_seconds is not None:
        pause = max(pause, min(retry_after_seconds, RETRY_AFTER_SECONDS_MAX))
    return now + timedelta(seconds=pause)


def is_given_up(*, failures: int, failing_since: datetime, now: datetime) -> bool:
    """Tells whether a destination that has failed since then is switched off now."""
    return failures >= DISABLE_FAILURES_MIN and now - failing_since >= DISABLE_AFTER
