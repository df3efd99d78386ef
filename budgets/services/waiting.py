"""Waiting for holds in flight: first come, first served within one gateway, woken by resolutions, bounded."""

from __future__ import annotations

import asyncio
from collections import deque
from uuid import UUID

from budgets.domain.authorization import Hold

POLL_SECONDS = 0.05
"""How often the first waiter looks by itself, since other gateways free budget too."""

WAITERS_MAX = 10_000


class TooManyWaiters(Exception):
    """So many calls wait on one counter that another would not get its turn in time."""


class Ticket:
    """A place in the queue of one counter. Leave it by `Waiters.leave`, whatever happened."""

    __slots__ = ("counter_id", "turn")

    def __init__(self, counter_id: UUID) -> None:
        self.counter_id = counter_id
        self.turn = asyncio.Event()


class Waiters:
    """Queues by counter."""

    def __init__(self) -> None:
        self._queues: dict[UUID, deque[Ticket]] = {}

    def __contains__(self, counter_id: UUID) -> bool:
        return counter_id in self._queues

    def join(self, counter_id: UUID) -> Ticket:
        """Takes a place at the end. Raises TooManyWaiters."""
        queue = self._queues.setdefault(counter_id, deque())
        if len(queue) >= WAITERS_MAX:
            raise TooManyWaiters(f"{WAITERS_MAX} calls wait for this budget already")
        ticket = Ticket(counter_id)
        queue.append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Gives the place up; the next in the queue may try at once."""
        queue = self._queues.get(ticket.counter_id)
        if queue is None:
            return
        if ticket in queue:
            queue.remove(ticket)
        if queue:
            queue[0].turn.set()
        else:
            del self._queues[ticket.counter_id]

    def wake(self, counter_id: UUID) -> None:
        """Tells the first waiter that something was freed."""
        queue = self._queues.get(counter_id)
        if queue:
            queue[0].turn.set()

    def freed(self, hold: Hold) -> None:
        """Wakes the first waiter of each counter that a resolved hold was on."""
        for counter in hold.body.counters:
            self.wake(counter.counter_id)

    async def turn(self, ticket: Ticket, *, seconds: float) -> bool:
        """Waits until it is this ticket's turn to try. False when `seconds` ran out first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            left = deadline - loop.time()
            if left <= 0:
                return False
            # Only the first looks by itself: whoever becomes the first is told.
            queue = self._queues.get(ticket.counter_id)
            first = queue is not None and queue[0] is ticket
            try:
                async with asyncio.timeout(min(left, POLL_SECONDS) if first else left):
                    await ticket.turn.wait()
            except TimeoutError:
                if first:
                    return True
                continue
            ticket.turn.clear()
            return True
