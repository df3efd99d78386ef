"""A byte pipe between a client and a server that can be paused, cut, or made to lose answers.

It listens on a unix socket or a port of 127.0.0.1 and connects to another. All proxies of a process share one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

Address = Path | int
T = TypeVar("T")
CHUNK = 65_536
CALL_SECONDS = 10.0


class _Loop:
    """One event loop in one thread, for all proxies."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True).start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS)


_shared: _Loop | None = None


def _loop() -> _Loop:
    global _shared
    if _shared is None:
        _shared = _Loop()
    return _shared


class Proxy:
    """One pipe. `upstream` may be changed: connections made from then on go there."""

    def __init__(self, listen: Address, upstream: Address) -> None:
        self.listen, self.upstream = listen, upstream
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = self._losing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.lost_answers = 0
        self._server = _loop().call(self._start())

    async def _start(self) -> asyncio.Server:
        if isinstance(self.listen, int):
            return await asyncio.start_server(self._serve, "127.0.0.1", self.listen)
        return await asyncio.start_unix_server(self._serve, self.listen)

    def pause(self) -> None:
        """Lets nothing through, either way, until `resume`; connections stay."""
        _loop().loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Lets everything through again, what waited included."""
        _loop().loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Breaks every connection; new ones are refused until `mend`."""
        self._refusing = True
        _loop().call(self._break())

    def mend(self) -> None:
        """Takes connections again."""
        self._refusing = False

    def reset(self) -> None:
        """Breaks every connection, once."""
        _loop().call(self._break())

    def lose_answers(self, losing: bool) -> None:
        """Forwards what clients send, and answers with a broken connection."""
        self._losing = losing

    def close(self) -> None:
        """Ends it."""

        async def end() -> None:
            self._server.close()
            await self._break()
            await asyncio.sleep(0)

        _loop().call(end())

    async def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._refusing:
                return
            if isinstance(self.upstream, int):
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            else:
                up_reader, up_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            return
        else:
            self._writers.add(up_writer)
            try:
                await asyncio.gather(
                    self._pump(reader, up_writer, answers=False), self._pump(up_reader, writer, answers=True)
                )
            finally:
                self._writers.discard(up_writer)
                up_writer.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if answers and self._losing:
                    self.lost_answers += 1
                    break
                writer.write(data)
                await writer.drain()
        # An end on either side is an end of both: nobody here half-closes.
        for end in (writer,):
            end.transport.abort()
