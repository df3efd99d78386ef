"""Places at noburn for a server's callers: so many at once, so many of one subject, and the next for each in its turn.

A server's own crowd must not run into the time-outs that are meant for a noburn that does not answer. Nor may those who
wait for one customer's holds keep the callers of another from asking.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable


class Turns:
    """For one event loop."""

    def __init__(self, most: int, each: int) -> None:
        self._most, self._each = most, each
        self._taken = 0
        self._of: Counter[Hashable] = Counter()
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._queues.values()))

    def free(self, subject: Hashable) -> Callable[[], None] | None:
        """Takes a place that nobody waits for, and returns what gives it back; None where there is none."""
        if subject in self._queues or self._taken >= self._most or self._of[subject] >= self._each:
            return None
        self._taken += 1
        self._of[subject] += 1
        return self._once(subject)

    async def take(self, subject: Hashable, seconds: float) -> Callable[[], None] | None:
        """Takes a place, and returns what gives it back; None where there was none in time."""
        if (found := self.free(subject)) is not None:
            return found
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(subject, deque()).append(place)
        try:
            await asyncio.wait([place], timeout=max(0.0, seconds))
        except asyncio.CancelledError:
            if place.done():
                self._give_back(subject)
            else:
                self._leave(subject, place)
            raise
        if place.done():
            return self._once(subject)
        self._leave(subject, place)
        return None

    def _once(self, subject: Hashable) -> Callable[[], None]:
        open_ = [True]

        def give_back() -> None:
            if open_:
                open_.pop()
                self._give_back(subject)

        return give_back

    def _leave(self, subject: Hashable, place: asyncio.Future[None]) -> None:
        queue = self._queues[subject]
        queue.remove(place)
        if not queue:
            del self._queues[subject]

    def _give_back(self, subject: Hashable) -> None:
        self._taken -= 1
        self._of[subject] -= 1
        if not self._of[subject]:
            del self._of[subject]
        # One place is free, so one is called. Those before it that have all of theirs are few: no more than
        # places divided by those of each.
        found = next((one for one in self._queues if self._of[one] < self._each), None)
        if found is not None and self._taken < self._most:
            self._call(found)

    def _call(self, subject: Hashable) -> None:
        queue = self._queues[subject]
        queue.popleft().set_result(None)
        self._taken += 1
        self._of[subject] += 1
        if queue:
            self._queues.move_to_end(subject)
        else:
            del self._queues[subject]
