"""The recovery controller: opens, renews, replaces and closes epochs; docs/escrow.md, section 3.

It alone may SCRIPT LOAD. Several may run at once, since PostgreSQL decides each step under the shard's lock. Scripts
are loaded and the key is set at most once for an epoch id, by the attempt that inserted it: every error throws that id
away.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from uuid import UUID, uuid4

from budgets.domain.escrow import EPOCH_VALIDITY_SECONDS, SHARDS
from budgets.stores.postgres.control import ControlStore
from budgets.stores.postgres.money import EpochRow, Row, StorageUnavailable
from budgets.stores.redis.connection import (
    NoScript,
    RedisClient,
    RedisConnection,
    RedisError,
    RedisUnavailable,
)
from budgets.stores.redis.keys import Keys, epoch_key
from budgets.stores.redis.scripts import ScriptSet, digests_of, texts_of

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
RENEW_SECONDS = 5.0
RETIRE_BATCH = 2_000


class EpochFailed(Exception):
    """An epoch could not be opened; the next round begins with a new one."""


class Superseded(EpochFailed):
    """Another controller replaced the epoch first; the shard is in its hands."""


@dataclass(frozen=True, slots=True)
class CloseResult:
    """What a planned close did: incarnations retired, and those whose use Redis did not know (they stay locked)."""

    retired: int
    unknown: int


class Controller:
    """Keeps one open epoch in every shard."""

    def __init__(self, *, store: ControlStore, redis: RedisClient) -> None:
        self._store, self._redis = store, redis

    async def run(self) -> None:
        """Works until cancelled: checks twice a second, renews every few seconds."""
        renewed_at, upgraded = 0.0, False
        loop = asyncio.get_running_loop()
        while True:
            try:
                due = loop.time() - renewed_at >= RENEW_SECONDS
                await self.round(renew=due)
                if due:
                    renewed_at = loop.time()
                if not upgraded:
                    # Once, at the start: two versions side by side must not replace each other's epochs for ever.
                    await self.upgrade()
                    upgraded = True
            except StorageUnavailable as error:
                log.warning("PostgreSQL cannot be reached: %s", error)
            except RedisUnavailable as error:
                log.warning("Redis cannot be reached: %s", error)
            except (RedisError, EpochFailed) as error:
                # Loading, read-only, full: while it lasts every round fails, and the one after it must come.
                log.warning("a round failed: %s", error)
            except Exception:
                log.exception("a round failed")
            await asyncio.sleep(CHECK_SECONDS)

    async def upgrade(self) -> int:
        """Closes, as planned, the epochs whose scripts are another version's; returns how many. Strands nothing."""
        closed = 0
        away: RedisUnavailable | None = None
        for row in await self._store.epochs():
            if row.state == "open" and not ScriptSet(row.scripts).current:
                try:
                    await self.close(row.shard)
                    closed += 1
                except RedisUnavailable as error:
                    away = error
        if away is not None:
            raise away
        if closed:
            log.info("closed %d epochs of another version", closed)
        return closed

    async def round(self, *, renew: bool) -> int:
        """One look at every shard; returns how many epochs were opened.

        Raises StorageUnavailable, RedisUnavailable (nobody answers). In a cluster, shards whose master is away are left
        as they are: nothing is known of them, and the others must not wait for them.
        """
        rows = {row.shard: row for row in await self._store.epochs()}
        await self._redis.ping()
        healthy, away = await self._healthy(
            [row for row in rows.values() if row.state == "open"], renew=renew
        )
        silent: set[RedisConnection] = set()
        opened = 0
        for shard in range(SHARDS):
            if shard in healthy or shard in away:
                continue
            row = rows.get(shard)
            server: RedisConnection | None = None
            try:
                server = await self._redis.near(epoch_key(shard))
                if server in silent:
                    raise RedisUnavailable("its master does not answer")
                await server.ping()
                if row is not None and row.state == "closing":
                    await self._finish_close(row)
                else:
                    reason = "first epoch" if row is None else f"Redis no longer knows the {row.state} epoch"
                    await self._open(shard, row.epoch_id if row else None, reason)
                opened += 1
            except EpochFailed as error:
                log.warning("shard %d: %s", shard, error)
            except RedisUnavailable:
                away.add(shard)
                if server is not None:
                    # A time-out for each of its shards would keep all others from being renewed.
                    silent.add(server)
        if opened:
            log.info("opened %d epochs", opened)
        if len(away) == SHARDS:
            raise RedisUnavailable("no shard's Redis answers")
        if away:
            log.warning("the Redis of shards %s cannot be reached", ", ".join(map(str, sorted(away))))
        return opened

    async def _healthy(self, rows: list[EpochRow], *, renew: bool) -> tuple[set[int], set[int]]:
        """The shards whose epoch Redis still knows, and those that it cannot be asked about.

        With `renew`, the validity of the former is prolonged as well.
        """
        until = (
            await self._store.renew([r.epoch_id for r in rows], EPOCH_VALIDITY_SECONDS)
            if renew and rows
            else {}
        )

        healthy: set[int] = set()
        away: set[int] = set()

        async def check(row: EpochRow) -> None:
            keys = Keys(shard=row.shard, epoch_id=row.epoch_id)
            try:
                # Without a new time this is a question: is the script there, and is the key ours?
                args = [until.get(row.epoch_id, 0)]
                reply = await self._redis.evalsha(ScriptSet(row.scripts).renew, [keys.epoch], [*args])
            except NoScript:
                return
            except RedisUnavailable:
                away.add(row.shard)
                return
            if reply[0] == b"RENEWED":
                healthy.add(row.shard)

        await asyncio.gather(*(check(row) for row in rows))
        return healthy, away

    async def _open(self, shard: int, old: UUID | None, reason: str) -> None:
        fresh = uuid4()
        recorded = digests_of(fresh)
        current = await self._store.replace(
            shard, old, fresh, validity_seconds=EPOCH_VALIDITY_SECONDS, reason=reason, scripts=recorded
        )
        if current != fresh:
            raise Superseded("another controller was faster")
        keys, scripts = Keys(shard=shard, epoch_id=fresh), ScriptSet(recorded)
        until = (await self._store.renew([fresh], EPOCH_VALIDITY_SECONDS)).get(fresh)
        if until is None:
            raise Superseded("it was replaced before it opened")
        try:
            # Should the slot leave this server in between, the next one has no script, and nothing is opened.
            server = await self._redis.near(keys.epoch)
            loads = [server.call("SCRIPT", "LOAD", text) for text in texts_of(fresh).values()]
            await asyncio.gather(*loads)
            # Ordered by its first valid_until: a controller that was held up here cannot undo its successor.
            reply = await self._redis.evalsha(scripts.open, [keys.epoch], [until, until])
            if reply[0] != b"OPENED":
                raise Superseded("a later epoch is open already")
        except RedisError as error:
            raise EpochFailed(f"Redis refused to open it: {error}") from error
        if not await self._store.opened(fresh):
            raise Superseded("it was replaced while it opened")

    async def close(self, shard: int) -> CloseResult:
        """A planned close of a shard's open epoch; a new one is open afterwards. Nothing is stranded.

        Raises EpochFailed if the shard has no open epoch; StorageUnavailable, RedisUnavailable (run it again).
        """
        row = next((r for r in await self._store.epochs() if r.shard == shard), None)
        if row is None or row.state not in ("open", "closing"):
            raise EpochFailed(f"shard {shard} has no open epoch")
        if not await self._store.closing(row.epoch_id):
            raise EpochFailed(f"the epoch of shard {shard} changed meanwhile; try again")
        return await self._finish_close(row)

    async def _finish_close(self, row: EpochRow) -> CloseResult:
        keys, scripts = Keys(shard=row.shard, epoch_id=row.epoch_id), ScriptSet(row.scripts)
        retired = unknown = 0
        try:
            await self._redis.evalsha(scripts.close, [keys.epoch], [])
            while batch := await self._store.live_grants(row.epoch_id, RETIRE_BATCH):
                done, lost = await self._retire(row.shard, keys, scripts, batch)
                retired, unknown = retired + done, unknown + lost
        except NoScript:
            # Redis was lost in the middle: what it had not answered yet is unknown, so it stays locked.
            unknown += len(await self._store.live_grants(row.epoch_id, RETIRE_BATCH))
        try:
            await self._open(row.shard, row.epoch_id, "planned close")
        except Superseded:
            log.info("shard %d: another controller opened the next epoch", row.shard)
        return CloseResult(retired, unknown)

    async def _retire(self, shard: int, keys: Keys, scripts: ScriptSet, batch: list[Row]) -> tuple[int, int]:
        await self._store.retire(shard, batch)

        async def one(row: Row) -> Row:
            reply = await self._redis.evalsha(
                scripts.retire, [keys.counter(row["counter"])], [row["inc"], "0"]
            )
            return {**row, "used": reply[1] if reply[0] == b"RETIRED" else None}

        answers = await asyncio.gather(*(one(row) for row in batch))
        await self._store.retired(answers)
        known = sum(row["used"] is not None for row in answers)
        return known, len(batch) - known
