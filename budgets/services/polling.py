"""One background loop for everything that a gateway reads again and again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from budgets.stores.postgres.money import StorageUnavailable

log = logging.getLogger(__name__)

STOP_SECONDS = 0.5


class Poller:
    """Calls `work` every `seconds` until stopped. A failure is logged and the next turn comes; what is held stays."""

    def __init__(self, work: Callable[[], Awaitable[None]], *, seconds: float, what: str) -> None:
        self._work, self._seconds, self._what = work, seconds, what
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; the first call comes after `seconds`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends, in the middle of a call if need be."""
        if self._task is not None:
            # asyncio.wait_for of Python 3.11, which the connection pool uses, loses a cancellation that comes just when
            # what it waits for is done: so it is asked again until it ends.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._work()
            except StorageUnavailable as error:
                log.warning("%s cannot be read: %s", self._what, error)
            except Exception:
                log.exception("%s cannot be read", self._what)
