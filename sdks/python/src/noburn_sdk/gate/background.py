"""An event loop in a thread of its own, on which noburn is asked for the callers of every other loop.

A client of asyncio belongs to one loop. Programs make and close several, and nothing tells when one ends; here
the connections stay open across all of them, and are closed in order.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """The loop, started at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="noburn-asking", daemon=True
                )
                self._thread.start()
            return self._loop

    async def ask(
        self, work: Callable[[], Coroutine[Any, Any, T]], abandoned: Callable[[Future[T]], None]
    ) -> T:
        """Runs the work over there and waits for it here.

        A caller that is cancelled meanwhile does not stop it: `abandoned` gets what comes of it.
        """
        here = asyncio.get_running_loop()
        waiter: asyncio.Future[T] = here.create_future()

        def deliver(done: Future[T]) -> None:
            if waiter.cancelled():
                abandoned(done)
            elif (error := done.exception()) is not None:
                waiter.set_exception(error)
            else:
                waiter.set_result(done.result())

        def finished(done: Future[T]) -> None:
            try:
                here.call_soon_threadsafe(deliver, done)
            except RuntimeError:
                # The caller's loop is closed.
                abandoned(done)

        asyncio.run_coroutine_threadsafe(work(), self._started()).add_done_callback(finished)
        return await waiter

    def close(self, last: Callable[[], Coroutine[Any, Any, None]], timeout: float) -> None:
        """Runs the last work, then ends the loop and its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(last(), loop).result(timeout)
        except FutureTimeout:
            pass
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout)
            if not thread.is_alive():
                loop.close()
