"""A gate for a server: it has one event loop for all of its life, so noburn is asked on that very loop.

The usual gate asks from a thread, since its callers' loops come and go; a server need not pay for that. Needs
Python 3.11.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore

from noburn_sdk._answers import Reply
from noburn_sdk._config import CONNECTIONS_MAX, logger
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Preflight, Request
from noburn_sdk.async_client import AsyncNoburn
from noburn_sdk.client import _headers
from noburn_sdk.errors import UnavailableError
from noburn_sdk.gate.background import Background
from noburn_sdk.gate.connections import Connections
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.gate import Asking, Gate
from noburn_sdk.gate.turns import Turns

LARGE_BYTES = 128 * 1024
"""A body of this size is counted in a thread."""
ASKING_MAX = 128
"""Callers that ask noburn at once. So many are answered within the time-out of one also where all of them are slow."""
ASKING_OF_SUBJECT_MAX = 32
"""Those of one subject among them."""
KEEP_SECONDS = 5.0
"""How long an idle connection to noburn is kept: shorter than servers keep theirs."""

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


def _subject(question: Preflight) -> Hashable:
    """Whom a call is for, as budgets can tell."""
    tags = tuple(sorted(question.tags.items())) if question.tags else None
    return question.customer, question.user, question.run, question.project, question.plan, tags


class _DirectNoburn(AsyncNoburn):
    """The same requests over connections made for a server, at a fraction of httpx's work for each."""

    def __init__(self, api_key: str, base_url: str, **options: Any) -> None:
        super().__init__(api_key, base_url, **options)
        url = urlsplit(self.base_url)
        self._path = url.path.rstrip("/").encode()
        self._given = [(name.encode(), value.encode()) for name, value in self._config.headers.items()]
        self._given.append((b"Host", url.netloc.rpartition("@")[2].encode()))
        self._connections = Connections(
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port or {"http": 80, "https": 443}[url.scheme],
            most=CONNECTIONS_MAX,
            kept=CONNECTIONS_MAX,
            keep_seconds=KEEP_SECONDS,
        )

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
        target = self._path + request.path.encode()
        try:
            answer = await self._connections.send(request.method, target, headers, body, waits)
            try:
                content = await answer.aread()
            finally:
                await answer.aclose()
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            logger.debug("%s %s: %r", request.method, request.path, error)
            return Lost(error)
        logger.debug("%s %s: %d", request.method, request.path, answer.status)
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return Reply(answer.status, told, content)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._connections.aclose()
        await super().aclose()


class ServingGate(Gate):
    """A `Gate` that belongs to one event loop. Close it by `aclose`, on that loop.

    It asks about each call unless `leases=True`: it stands beside noburn, and its callers are told how budgets stand.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"leases": False, **settings})

    def _begin(self) -> None:
        super()._begin()
        # Who waits for holds may keep its place for long; whoever does not is never behind one who does.
        self._patient = Turns(ASKING_MAX, ASKING_OF_SUBJECT_MAX)
        self._prompt = Turns(ASKING_MAX, ASKING_MAX)

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

    async def _turn(self, asking: Asking) -> Callable[[], None]:
        question = asking.question
        if question is not None and question.wait_ms:
            subject, began = _subject(question), time.monotonic()
            found = self._patient.free(subject)
            if found is None:
                found = await self._patient.take(subject, self.settings.busy_timeout - question.waited)
                # Others stood before it who wait for holds, and so did this one. When its time is over it asks all
                # the same: what it is told then is true of that moment.
                asking.waited(question.waited + time.monotonic() - began)
            if found is not None:
                return found
        found = await self._prompt.take(None, self.settings.retry_timeout)
        if found is None:
            raise UnavailableError("too many callers of this process ask noburn at once")
        return found

    async def aclose(self, timeout: float | None = None) -> bool:
        """Flushes and closes everything. False if settlements are left in the outbox."""
        await self._aclose()
        return await asyncio.to_thread(self.close, timeout)
