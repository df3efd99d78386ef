"""A circuit breaker: while noburn does not answer, calls are not made to wait for it one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable

FAILURES_MAX = 5
OPEN_SECONDS = 1.0
OPEN_SECONDS_MAX = 30.0


class Breaker:
    """Opens after several failures in a row, and then lets one call through at a time to try.

    Each failed trial doubles how long it stays open, up to half a minute. Any answer closes it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._seconds = OPEN_SECONDS
        self._until: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether calls are refused an answer at present."""
        return self._until is not None

    def admits(self) -> bool:
        """Says whether to ask noburn now. Each True is to be followed by `answered` or `failed`."""
        with self._lock:
            if self._until is None:
                return True
            now = self._clock()
            if now < self._until:
                return False
            # The next trial comes later, also if this one never reports.
            self._until = now + self._seconds
            return True

    def answered(self) -> None:
        """Notes that noburn answered, whatever it said."""
        with self._lock:
            self._failures, self._seconds, self._until = 0, OPEN_SECONDS, None

    def failed(self) -> None:
        """Notes that noburn did not answer within its time."""
        with self._lock:
            self._failures += 1
            if self._until is not None:
                self._seconds = min(self._seconds * 2, OPEN_SECONDS_MAX)
            elif self._failures < FAILURES_MAX:
                return
            self._until = self._clock() + self._seconds
