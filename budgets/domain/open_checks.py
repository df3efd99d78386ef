"""Which of the checks in flight an event of the original client answers, as it names none. Pure.

Of calls that look alike every one keeps a hold that covers it, if each was covered by its own: an event takes the
smallest hold that covers what was used, which is at most its own call's, so what is left covers what is still under
way. docs/original-client.md says the same to users.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

HOLD_MS: Final = 300_000
"""How long the hold of a check stands before it counts as spent; also the span of time of one bucket."""

REMEMBERED_MS: Final = 3_600_000
"""How long a check waits for its event, and an event is known again."""

SAME_SECOND_MS: Final = 2_000
"""Events carry their time in whole seconds: equal ones belong to checks of that second, and clocks differ a little."""

CERTAINLY_AGAIN_MS: Final = 1_500
"""The client gives up on an answer after two seconds: what is still under way for longer than this, and arrives
again, is a repetition. An answer takes milliseconds."""

BUCKETS: Final = REMEMBERED_MS // HOLD_MS


class OpenCheck(NamedTuple):
    """A check whose event has not come: its authorization, and what its hold is for."""

    cost_nano: int
    placed_ms: int
    bucket: int
    authorization: str


def bucket_of(placed_ms: int) -> int:
    """The span of time in which a hold was placed."""
    return placed_ms // HOLD_MS


def recent_buckets(now_ms: int) -> tuple[int, ...]:
    """Where checks lie whose hold may still stand; one ahead, as clocks differ."""
    at = bucket_of(now_ms)
    return at + 1, at, at - 1


def older_buckets(now_ms: int) -> tuple[int, ...]:
    """Where checks lie whose hold is presumed spent, the newest first."""
    at = bucket_of(now_ms)
    return tuple(range(at - 2, at - 1 - BUCKETS, -1))


def in_order(checks: Iterable[OpenCheck], *, cost_nano: int) -> list[OpenCheck]:
    """Returns the checks that an event of this cost may answer, the best first.

    Those whose hold covers it, the smallest first; then the others, the largest first; of equal ones the oldest.
    """
    found = list(checks)
    covering = sorted(check for check in found if check.cost_nano >= cost_nano)
    short = sorted(
        (check for check in found if check.cost_nano < cost_nano),
        key=lambda check: (-check.cost_nano, check.placed_ms),
    )
    return covering + short
