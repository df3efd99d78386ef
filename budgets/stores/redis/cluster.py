"""A Redis Cluster: one pipelining connection for each master; docs/adr/0033-redis-cluster.md.

A shard's keys share a hash tag, so a script's keys are always on one server. Whatever one server does (die, be cut off,
hand a slot over) concerns the shards of its slots and no others. What a server refused to run (MOVED, ASK, TRYAGAIN) was
not run and is sent again; what it may have run never is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable

from budgets.stores.redis.connection import (
    Argument,
    NoScript,
    RedisClient,
    RedisConnection,
    RedisError,
    RedisUnavailable,
    Reply,
)
from noburn.kit.redis_cluster import SLOTS, Range, beside, is_cluster, ranges_of, seeds_of, slot_of

log = logging.getLogger(__name__)

REDIRECTS_MAX = 5
TRIES_AGAIN_MAX = 10
TRY_AGAIN_SECONDS = 0.1
"""While a slot is handed over key by key, calls that need both halves are told to try again."""

ASKED_MAX = 8
"""How many servers are asked at once for the slots; the first answer counts."""

REFRESH_SECONDS_MIN = 0.1


def connect(url: str) -> RedisClient:
    """A client of the one server, or of the cluster, that a URL names. Connects at the first call. Raises ValueError."""
    return RedisCluster(url) if is_cluster(url) else RedisConnection(url)


class RedisCluster:
    """A client of all masters of a cluster. Use from one event loop."""

    def __init__(self, url: str) -> None:
        self._seeds = seeds_of(url)
        self._known: list[str] = list(self._seeds)
        self._owners: list[str | None] = [None] * SLOTS
        self._nodes: dict[str, RedisConnection] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._refreshed_at = 0.0

    async def call(self, *command: Argument) -> Reply:
        """Sends a command, whose first argument is its key, to the master of that key.

        Raises RedisUnavailable, NoScript, RedisError.
        """
        key = command[1]
        return await self._send(slot_of(key if isinstance(key, bytes) else str(key)), command)

    def evalsha(self, sha: str, keys: list[str], args: list[Argument]) -> Awaitable[Reply]:
        """Runs a loaded script; its keys share one slot."""
        return self._send(slot_of(keys[0]), ("EVALSHA", sha, len(keys), *keys, *args))

    async def near(self, key: str, /) -> RedisConnection:
        """The connection to the master of a key, for commands without one. Raises RedisUnavailable if it has none."""
        return self._node(await self._owner(slot_of(key)))

    async def ping(self) -> None:
        """Raises RedisUnavailable if no master answers."""
        if not any(self._owners):
            await self._refreshed()
        masters = {url for url in self._owners if url is not None}
        answers = await asyncio.gather(*(self._ping(url) for url in masters))
        if not any(answers):
            raise RedisUnavailable("no master of the cluster answers")

    async def _ping(self, url: str) -> bool:
        try:
            await self._node(url).ping()
        except (RedisUnavailable, RedisError):
            self._refresh_soon(avoid=url)
            return False
        return True

    async def close(self) -> None:
        """Closes every connection; calls under way fail."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.close()

    async def _send(self, slot: int, command: tuple[Argument, ...]) -> Reply:
        url, asking = self._owners[slot] or await self._owner(slot), False
        redirects = waits = 0
        while True:
            try:
                return await self._node(url).call(*command, asking=asking)
            except RedisUnavailable:
                self._refresh_soon(avoid=url)
                raise
            except NoScript:
                raise
            except RedisError as error:
                word, *rest = str(error).split()
                if word in ("MOVED", "ASK") and redirects < REDIRECTS_MAX:
                    # It was not run there, so it may be sent where it belongs.
                    redirects += 1
                    host, _, port = rest[1].rpartition(":")
                    url, asking = beside(url, host, int(port)), word == "ASK"
                    if word == "MOVED":
                        self._owners[slot] = url
                        self._refresh_soon()
                elif word == "TRYAGAIN" and waits < TRIES_AGAIN_MAX:
                    waits += 1
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
                    url, asking = await self._owner(slot), False
                elif word in ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"):
                    self._refresh_soon(avoid=url)
                    raise RedisUnavailable(f"slot {slot}: {error}") from error
                else:
                    raise

    async def _owner(self, slot: int) -> str:
        if self._owners[slot] is None:
            await self._refreshed()
        url = self._owners[slot]
        if url is None:
            raise RedisUnavailable(f"no master has slot {slot}")
        return url

    def _node(self, url: str) -> RedisConnection:
        node = self._nodes.get(url)
        if node is None:
            node = self._nodes[url] = RedisConnection(url)
        return node

    def _refresh_soon(self, *, avoid: str = "") -> None:
        """Reads the slots anew, behind the call that showed them to be out of date; callers at the same time share it."""
        loop = asyncio.get_running_loop()
        running = self._refreshing is not None and not self._refreshing.done()
        if not running and loop.time() - self._refreshed_at >= REFRESH_SECONDS_MIN:
            self._refreshing = loop.create_task(self._refresh(avoid))

    async def _refreshed(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(""))
        await asyncio.shield(self._refreshing)

    async def _refresh(self, avoid: str) -> None:
        # A master that is cut off goes on telling what was: whoever failed a call is asked last.
        known = [url for url in {*self._known, *self._seeds} if url != avoid] or [avoid]
        tasks = [
            asyncio.create_task(self._ask(url))
            for url in random.SystemRandom().sample(known, min(len(known), ASKED_MAX))
        ]
        try:
            for answer in asyncio.as_completed(tasks):
                ranges = await answer
                if ranges:
                    await self._take(ranges)
                    return
            log.info("no server of the cluster tells its slots")
        finally:
            for task in tasks:
                task.cancel()
            self._refreshed_at = asyncio.get_running_loop().time()

    async def _ask(self, url: str) -> list[Range]:
        try:
            return ranges_of(await self._node(url).call("CLUSTER", "SLOTS"), asked=url)
        except (RedisUnavailable, RedisError) as error:
            log.info("a server of the cluster does not tell its slots: %s", error)
            return []

    async def _take(self, ranges: list[Range]) -> None:
        owners: list[str | None] = [None] * SLOTS
        for found in ranges:
            owners[found.first : found.last + 1] = [found.servers[0]] * (found.last + 1 - found.first)
        self._owners = owners
        self._known = [url for found in ranges for url in found.servers]
        for url in self._nodes.keys() - {*self._known, *self._seeds}:
            await self._nodes.pop(url).close()
