"""A server's connections to one address: HTTP/1.1 by h11, a request in one write, and work that does not grow with them.

httpcore's own pool looks at every connection for every request, and above its number of kept ones closes each as soon
as it is free: with some hundred calls at once that is most of what a proxy does. Its names for failures are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping

import h11
import httpcore

from noburn_sdk.gate.sockets import AsyncioBackend

Header = tuple[bytes, bytes]
Seconds = Mapping[str, float]

READ_BYTES = 65_536
HEAD_BYTES_MAX = 102_400


class Connection:
    """One connection, for one request at a time."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.kept_until = 0.0

    async def begin(
        self, method: bytes, target: bytes, headers: list[Header], content: bytes, seconds: Seconds
    ) -> tuple[int, list[Header]]:
        """Sends a request; returns status and headers of its answer. Raises httpcore's errors."""
        try:
            written = self._h11.send(h11.Request(method=method, target=target, headers=headers)) or b""
            if content:
                written += self._h11.send(h11.Data(content)) or b""
            written += self._h11.send(h11.EndOfMessage()) or b""
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(str(error)) from error
        # A server may answer and close before it has read everything: what it says counts.
        with contextlib.suppress(httpcore.WriteError):
            await self._stream.write(written, seconds["write"])
        while True:
            event = await self._event(seconds)
            if isinstance(event, h11.Response):
                return event.status_code, event.headers.raw_items()
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise httpcore.RemoteProtocolError("the answer does not begin with a status")

    async def pieces(self, seconds: Seconds) -> AsyncIterator[bytes]:
        """The answer's body as it comes."""
        while True:
            event = await self._event(seconds)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def _event(self, seconds: Seconds) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise httpcore.RemoteProtocolError(str(error)) from error
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            data = await self._stream.read(READ_BYTES, seconds["read"])
            if not data and self._h11.their_state is h11.SEND_RESPONSE:
                raise httpcore.RemoteProtocolError("the server hung up without an answer")
            self._h11.receive_data(data)

    def rest(self, keep_seconds: float) -> bool:
        """Makes ready for another request; False where this connection is good for none."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        if self._h11.trailing_data[0]:
            # Bytes behind an answer would be taken for the beginning of the next one.
            return False
        self._h11.start_next_cycle()
        self.kept_until = time.monotonic() + keep_seconds
        return not self._stream.get_extra_info("is_readable")

    @property
    def is_over(self) -> bool:
        """Whether a resting connection was closed by the other side, or has rested for too long."""
        return time.monotonic() > self.kept_until or bool(self._stream.get_extra_info("is_readable"))

    async def aclose(self) -> None:
        """Closes it."""
        await self._stream.aclose()


class _Body:
    """An answer's body; gives its connection back when it is read or closed."""

    def __init__(self, pool: Connections, connection: Connection, seconds: Seconds) -> None:
        self._pool, self._connection, self._seconds = pool, connection, seconds
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._connection.pieces(self._seconds):
                yield piece
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Ends it; a body that was not read to its end closes the connection."""
        if self._open:
            self._open = False
            await self._pool._give_back(self._connection)


class Connections:
    """Connections to one address. For one event loop."""

    def __init__(
        self,
        *,
        scheme: str,
        host: str,
        port: int,
        most: int,
        kept: int,
        keep_seconds: float,
        tls: ssl.SSLContext | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._tls = (tls or ssl.create_default_context()) if scheme == "https" else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._backend = backend or AsyncioBackend()
        self._room = asyncio.Semaphore(most)
        self._kept, self._keep_seconds = kept, keep_seconds
        # The last to come goes out first, so that those which are too many grow old on the left.
        self._resting: deque[Connection] = deque()

    async def send(
        self, method: str, target: bytes, headers: list[Header], content: bytes, seconds: Seconds
    ) -> httpcore.Response:
        """Sends a request and returns its answer once its head is here; close it. Raises httpcore's errors.

        `seconds` bounds each of `connect`, `read`, `write` and `pool`, the wait for a connection.
        """
        if self._room.locked():
            try:
                async with asyncio.timeout(seconds["pool"]):
                    await self._room.acquire()
            except TimeoutError:
                raise httpcore.PoolTimeout("too many requests are under way") from None
        else:
            await self._room.acquire()
        connection: Connection | None = None
        try:
            connection = await self._rested() or Connection(await self._connect(seconds["connect"]))
            status, told = await connection.begin(method.encode(), target, headers, content, seconds)
        except BaseException:
            self._room.release()
            if connection is not None:
                await connection.aclose()
            raise
        return httpcore.Response(status, headers=told, content=_Body(self, connection, seconds))

    async def _rested(self) -> Connection | None:
        while self._resting:
            connection = self._resting.pop()
            if not connection.is_over:
                return connection
            await connection.aclose()
        return None

    async def _connect(self, seconds: float) -> httpcore.AsyncNetworkStream:
        stream = await self._backend.connect_tcp(self._host, self._port, seconds)
        if self._tls is not None:
            stream = await stream.start_tls(self._tls, self._host, seconds)
        return stream

    async def _give_back(self, connection: Connection) -> None:
        self._room.release()
        if connection.rest(self._keep_seconds):
            self._resting.append(connection)
            while self._resting and (len(self._resting) > self._kept or self._resting[0].is_over):
                await self._resting.popleft().aclose()
        else:
            await connection.aclose()

    async def aclose(self) -> None:
        """Closes those that rest; one under way closes with its answer."""
        self._kept = 0
        while self._resting:
            await self._resting.pop().aclose()
