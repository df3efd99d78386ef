"""Work that many ask for at once and that is done once for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Flights(Generic[K, T]):
    """One piece of work a key at a time. Who asks while it runs shares the next run, so each answer is read after it was
    asked for: an edit that came before the question is in it."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}
        self._next: dict[K, asyncio.Task[T]] = {}

    async def share(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """Returns or raises what a run of `work` does that begins from now on."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.ensure_future(self._fly(key, self._running.get(key), work))
            # Seen by whoever still waits: callers that gave up must not leave a warning.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _fly(self, key: K, before: asyncio.Task[T] | None, work: Callable[[], Awaitable[T]]) -> T:
        if before is not None:
            await asyncio.wait({before})
        task = self._running[key] = self._next.pop(key)
        try:
            return await work()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
