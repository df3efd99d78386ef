"""One connection to Redis that pipelines concurrent calls: what callers send while answers are due leaves in one write.

hiredis parses and packs. A broken connection fails every call under way (their effect is unknown) and is made again
at the next call. No retry happens here: only the caller knows whether a repeat is safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

import hiredis

Reply = Any
Argument = str | bytes | int

CALL_SECONDS = 2.0
"""How long a call may wait for its answer before the connection counts as broken."""

PENDING_MAX = 20_000
"""Calls under way on one connection; beyond that callers are told at once."""


class RedisUnavailable(Exception):
    """Redis cannot be reached, or went away with calls under way: whether those took effect is unknown."""


class RedisError(Exception):
    """Redis refused a command; the text is its answer."""


class NoScript(RedisError):
    """The script is not loaded: this Redis was restarted or promoted, or never belonged to the epoch."""


class RedisClient(Protocol):
    """One Redis server, or a cluster of them (cluster.py). A shard's keys share a hash tag, and so a server."""

    async def call(self, *command: Argument) -> Reply:
        """Sends one command, whose first argument is its key. Raises RedisUnavailable, NoScript, RedisError."""

    def evalsha(self, sha: str, keys: list[str], args: list[Argument]) -> Awaitable[Reply]:
        """Runs a loaded script; its keys share a hash tag."""

    async def near(self, key: str, /) -> RedisConnection:
        """The server that has a key, for commands that name none: TIME, SCAN, SCRIPT LOAD. Raises RedisUnavailable."""

    async def ping(self) -> None:
        """Raises RedisUnavailable if nobody answers."""

    async def close(self) -> None:
        """Closes every connection; calls under way fail."""


def _pack(command: tuple[Argument, ...]) -> bytes:
    # hiredis types its argument as a tuple of one.
    return bytes(hiredis.pack_command(cast(Any, command)))


def _seen(future: asyncio.Future[Reply]) -> None:
    # Nobody waits for it: the command after it tells whether it was heard.
    if not future.cancelled():
        future.exception()


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.waiting: deque[asyncio.Future[Reply]] = deque()
        self.transport: asyncio.Transport | None = None
        self.buffer: list[bytes] = []
        self.answered_at = 0.0
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, since uvloop's transport behaves as asyncio's without being one.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.answered_at = self.loop.time()
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            future = self.waiting.popleft()
            if future.done():
                continue
            if isinstance(reply, hiredis.ReplyError):
                text = str(reply)
                future.set_exception(NoScript(text) if text.startswith("NOSCRIPT") else RedisError(text))
            else:
                future.set_result(reply)
        if self.buffer:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        error = RedisUnavailable(str(exc or "connection closed"))
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_exception(error)

    def send(self, packed: bytes) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self.loop.create_future()
        if self.transport is None:
            # Lost before the first word: nobody would ever answer, nor tell that the connection is gone.
            future.set_exception(RedisUnavailable("connection closed"))
            return future
        if not self.waiting:
            self.answered_at = self.loop.time()
        # As Nagle had it: while answers are on their way, what comes is gathered and leaves with the next of them. Under
        # load a write then carries many calls; alone, a call leaves in this turn of the loop.
        if not self.buffer and len(self.waiting) == 0:
            self.loop.call_soon(self._flush)
        self.waiting.append(future)
        self.buffer.append(packed)
        return future

    def _flush(self) -> None:
        buffer, self.buffer = self.buffer, []
        if self.transport is not None and buffer:
            self.transport.write(b"".join(buffer))


class RedisConnection:
    """A pipelining client of one Redis server. Use from one event loop."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._protocol: _Protocol | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._failed_at = 0.0
        self._watchdog: asyncio.Task[None] | None = None

    async def call(self, *command: Argument, asking: bool = False) -> Reply:
        """Sends one command and returns its reply. Raises RedisUnavailable, NoScript, RedisError.

        `asking`: a slot that this server is taking over has it; good for this command alone.
        """
        protocol = self._protocol
        if protocol is None or protocol.transport is None:
            protocol = await self._connect()
        if len(protocol.waiting) >= PENDING_MAX:
            raise RedisUnavailable(f"{PENDING_MAX} calls are under way already")
        if asking:
            # Both leave in this turn of the loop, so nothing comes between them.
            protocol.send(_pack(("ASKING",))).add_done_callback(_seen)
        return await protocol.send(_pack(command))

    def evalsha(self, sha: str, keys: list[str], args: list[Argument]) -> Awaitable[Reply]:
        """Runs a loaded script."""
        return self.call("EVALSHA", sha, len(keys), *keys, *args)

    async def near(self, _key: str, /) -> RedisConnection:
        """This server: it has every key."""
        return self

    async def ping(self) -> None:
        """Raises RedisUnavailable if it does not answer, RedisError if it refuses to."""
        await self.call("PING")

    async def _connect(self) -> _Protocol:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._connecting:
            if self._protocol is not None and self._protocol.transport is not None:
                return self._protocol
            if self._failed_at > asked_at:
                # Whoever waited for an attempt shares its end: one after another would wait for minutes.
                raise RedisUnavailable("cannot reach Redis")
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    protocol = await self._introduced()
            except (OSError, TimeoutError, RedisUnavailable) as error:
                self._failed_at = loop.time()
                raise RedisUnavailable(f"cannot reach Redis: {error}") from error
            self._protocol = protocol
            if self._watchdog is None:
                self._watchdog = loop.create_task(self._watch())
            return protocol

    async def _introduced(self) -> _Protocol:
        """A connection to the URL's server, logged in, and on its database."""
        loop, url = asyncio.get_running_loop(), self._url
        if url.scheme == "unix":
            transport, protocol = await loop.create_unix_connection(_Protocol, url.path)
        else:
            host, port = url.hostname or "127.0.0.1", url.port or 6379
            transport, protocol = await loop.create_connection(
                _Protocol, host, port, ssl=url.scheme == "rediss" or None
            )
        commands: list[tuple[Argument, ...]] = []
        if url.password:
            user = (unquote(url.username),) if url.username else ()
            commands.append(("AUTH", *user, unquote(url.password)))
        if url.scheme != "unix" and (database := url.path.strip("/")) not in ("", "0"):
            commands.append(("SELECT", database))
        try:
            for command in commands:
                await protocol.send(_pack(command))
        except RedisError as error:
            # A password that changed, a user that it forgot at a restart: nothing that a call could be told apart by.
            transport.abort()
            raise RedisUnavailable(f"it does not let us in: {error}") from error
        except BaseException:
            # Every attempt would leave one open otherwise.
            transport.abort()
            raise
        return protocol

    async def _watch(self) -> None:
        # One clock for all calls instead of a timer each: a server that stops answering is cut off.
        while True:
            await asyncio.sleep(CALL_SECONDS / 4)
            protocol = self._protocol
            if protocol is None or protocol.transport is None or not protocol.waiting:
                continue
            if protocol.loop.time() - protocol.answered_at > CALL_SECONDS:
                protocol.transport.abort()

    async def close(self) -> None:
        """Closes the connection; calls under way fail."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.transport.close()
        self._protocol = None
