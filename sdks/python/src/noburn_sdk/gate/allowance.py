"""What may be let through while noburn does not answer: an amount, not a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal


class Allowance:
    """USD that this process may let through unasked in one UTC day. A bound is taken, then what it really cost.

    It is soft: every process has its own, and what passes is in no budget.
    """

    def __init__(self, usd_max: Decimal, today: Callable[[], date]) -> None:
        self._nano_max = int(usd_max * 10**9)
        self._today = today
        self._lock = threading.Lock()
        self._day = today()
        self._nano = 0

    @property
    def used_nano(self) -> int:
        """What was let through today."""
        with self._lock:
            self._turn()
            return self._nano

    def take(self, nano: int) -> bool:
        """Takes an amount, if it is left."""
        with self._lock:
            self._turn()
            if self._nano + nano > self._nano_max:
                return False
            self._nano += nano
            return True

    def give_back(self, nano: int, day: date) -> None:
        """Returns what a call did not use of what it took that day."""
        with self._lock:
            self._turn()
            if day == self._day:
                self._nano = max(0, self._nano - nano)

    def _turn(self) -> None:
        today = self._today()
        if today != self._day:
            self._day, self._nano = today, 0
