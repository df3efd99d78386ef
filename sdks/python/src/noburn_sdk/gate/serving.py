"""A gate for a server: it has one event loop for all of its life, so noburn is asked on that very loop.

The usual gate asks from a thread, since its callers' loops come and go; a server need not pay for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from noburn_sdk.gate.background import Background
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.gate import Asking, Gate

LARGE_BYTES = 128 * 1024
"""A body of this size is counted in a thread."""

T = TypeVar("T")


class Here(Background):
    """Asks on the loop of whoever asks."""

    async def ask(
        self, work: Callable[[], Coroutine[Any, Any, T]], abandoned: Callable[[Future[T]], None]
    ) -> T:
        """Runs the work as a task; a caller that is cancelled leaves it running, and `abandoned` gets what comes."""
        task = asyncio.ensure_future(work())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # A task offers the same questions as a future of a thread: cancelled, exception, result.
            task.add_done_callback(abandoned)  # type: ignore[arg-type]
            raise


class ServingGate(Gate):
    """A `Gate` that belongs to one event loop. Close it by `aclose`, on that loop."""

    def _asker(self) -> Background:
        return Here()

    async def _bounded(self, asked: Asked) -> Asking:
        if asked.size < LARGE_BYTES:
            return Asking(self, asked)
        # Counting so much takes a while, in which everybody else's answers would stand still.
        return await asyncio.to_thread(Asking, self, asked)

    async def aclose(self, timeout: float | None = None) -> bool:
        """Flushes and closes everything. False if settlements are left in the outbox."""
        await self._aclose()
        return await asyncio.to_thread(self.close, timeout)
