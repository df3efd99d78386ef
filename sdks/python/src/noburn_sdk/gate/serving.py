"""A gate for a server: it has one event loop for all of its life, so noburn is asked on that very loop.

The usual gate asks from a thread, since its callers' loops come and go; a server need not pay for that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from noburn_sdk._answers import Reply
from noburn_sdk._config import CONNECTIONS_KEPT, CONNECTIONS_MAX, logger
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Request
from noburn_sdk.async_client import AsyncNoburn
from noburn_sdk.client import _headers
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


def _is_behind_proxy(url: str) -> bool:
    """Whether the environment names a proxy for this address, which httpx knows how to use."""
    parts = urlsplit(url)
    named = getproxies()
    return (parts.scheme in named or "all" in named) and not proxy_bypass(parts.hostname or "")


class _DirectNoburn(AsyncNoburn):
    """The same requests by what httpx itself stands on, which costs a server a quarter less for each."""

    def __init__(self, api_key: str, base_url: str, **options: Any) -> None:
        super().__init__(api_key, base_url, **options)
        self._url = httpcore.URL(self.base_url)
        self._given = [(name.encode(), value.encode()) for name, value in self._config.headers.items()]
        self._given.append((b"Host", self._authority()))
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context() if self._url.scheme == b"https" else None,
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_KEPT,
            keepalive_expiry=5.0,
        )

    def _authority(self) -> bytes:
        usual = {b"http": 80, b"https": 443}[self._url.scheme]
        port = self._url.port
        return self._url.host if port in (None, usual) else b"%b:%d" % (self._url.host, port)

    async def _send(self, request: Request) -> Reply | Lost:
        seconds = self._config.timeout
        body = request.body or b""
        headers = [*self._given, (b"Content-Length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in _headers(request)]
        waits = {
            "connect": seconds,
            "read": seconds + request.wait_seconds,
            "write": seconds,
            "pool": seconds,
        }
        url = httpcore.URL(
            scheme=self._url.scheme,
            host=self._url.host,
            port=self._url.port,
            target=self._url.target.rstrip(b"/") + request.path.encode(),
        )
        try:
            answer = await self._pool.request(
                request.method, url, headers=headers, content=body, extensions={"timeout": waits}
            )
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            logger.debug("%s %s: %r", request.method, request.path, error)
            return Lost(error)
        logger.debug("%s %s: %d", request.method, request.path, answer.status)
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return Reply(answer.status, told, answer.content)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()
        await super().aclose()


class ServingGate(Gate):
    """A `Gate` that belongs to one event loop. Close it by `aclose`, on that loop.

    It asks about each call unless `leases=True`: it stands beside noburn, and its callers are told how budgets stand.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"leases": False, **settings})

    def _asker(self) -> Background:
        return Here()

    def _new_async_client(self, **options: Any) -> AsyncNoburn:
        kind = AsyncNoburn if _is_behind_proxy(self.base_url) else _DirectNoburn
        return kind(self._key, self.base_url, **options)

    async def _bounded(self, asked: Asked) -> Asking:
        if asked.size < LARGE_BYTES:
            return Asking(self, asked)
        # Counting so much takes a while, in which everybody else's answers would stand still.
        return await asyncio.to_thread(Asking, self, asked)

    async def aclose(self, timeout: float | None = None) -> bool:
        """Flushes and closes everything. False if settlements are left in the outbox."""
        await self._aclose()
        return await asyncio.to_thread(self.close, timeout)
