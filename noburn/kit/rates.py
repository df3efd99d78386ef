"""How often somebody may ask: token buckets in this process's memory, and the answer to those whose is empty.

Every process counts on its own, so what an installation lets through is the rate times its processes; counting in one
place would cost every request a round trip. A bucket is one number, the time at which it will be full again (GCRA).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from noburn.kit.problems import Problem, ProblemError, problem

NAMES_MAX: Final = 100_000
SLUG: Final = "too-many-requests"


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_second` requests in the long run, and `burst` at once after a rest."""

    per_second: float
    burst: int


class Buckets:
    """Buckets by name; whoever has none yet has a full one. When there are too many, the oldest half is forgotten.

    Several threads may use it: two at the same moment may take one token between them, and never a hundred.
    """

    def __init__(self, *, names_max: int = NAMES_MAX) -> None:
        self._full_at: dict[Hashable, float] = {}
        self._names_max = names_max

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: Hashable, rate: Rate, now: float) -> float:
        """Takes a token and returns 0.0; or takes none and returns after how many seconds there will be one."""
        wait, full_at = self._next(name, rate, now)
        if wait:
            return wait
        if len(self._full_at) >= self._names_max and name not in self._full_at:
            self._forget(now)
        self._full_at[name] = full_at
        return 0.0

    def wait(self, name: Hashable, rate: Rate, now: float) -> float:
        """What `take` would return, without taking a token."""
        return self._next(name, rate, now)[0]

    def _next(self, name: Hashable, rate: Rate, now: float) -> tuple[float, float]:
        """After how many seconds there is a token, and when the bucket would be full again without it."""
        step = 1.0 / rate.per_second
        full_at = max(self._full_at.get(name, 0.0), now) + step
        wait = full_at - now - rate.burst * step
        # A token's share of rounding, so that the last of a burst is not refused for a billionth of a second.
        return wait if wait > step * 1e-6 else 0.0, full_at

    def left(self, name: Hashable, rate: Rate, now: float) -> int:
        """How many tokens are left."""
        missing = max(self._full_at.get(name, 0.0) - now, 0.0) * rate.per_second
        return max(int(rate.burst - missing + 1e-6), 0)

    def _forget(self, now: float) -> None:
        kept = [(name, full_at) for name, full_at in list(self._full_at.items()) if full_at > now]
        # Not one by one from the front: a dict looks for its first name past all that were there.
        self._full_at = dict(kept[-(self._names_max // 2) :])


def refused(whose: str, rate: Rate, wait: float) -> ProblemError:
    """The failure of a request that came too soon."""
    seconds = max(1, math.ceil(wait))
    return ProblemError(
        problem(
            SLUG,
            f"{whose} asks more often than {rate.per_second:g} times a second, with {rate.burst} at once. "
            f"Repeat the request in {seconds} s.",
            retry_after_seconds=seconds,
            limit=rate.burst,
            resets_after_seconds=max(1, math.ceil(wait + (rate.burst - 1) / rate.per_second)),
        )
    )


def headers_of(failure: Problem) -> Mapping[str, str]:
    """The headers that go with such a failure; none for another."""
    if failure.type_slug != SLUG:
        return {}
    return {
        "Retry-After": str(failure.extra["retry_after_seconds"]),
        "RateLimit-Limit": str(failure.extra["limit"]),
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(failure.extra["resets_after_seconds"]),
    }
