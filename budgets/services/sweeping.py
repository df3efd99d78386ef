"""What keeps the escrow tidy when clients, messages or gateways are lost: presumes expired holds, sends load messages
again, retires counters whose window is over. Safe to run twice at once and to be killed anywhere."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from budgets.domain.authorization import Hold, hold_from
from budgets.domain.escrow import GRACE_SECONDS, MAX_HOLD_LIFE_SECONDS
from budgets.services.epochs import EpochDirectory
from budgets.services.grants import Grants
from budgets.services.resolutions import Outcome, Resolutions, Unrecordable, presumption
from budgets.stores.postgres.control import ControlStore
from budgets.stores.postgres.money import EpochRow, Row
from budgets.stores.redis.connection import NoScript, RedisClient, RedisConnection, RedisUnavailable
from budgets.stores.redis.keys import Keys, epoch_key
from budgets.stores.redis.scripts import ScriptSet

log = logging.getLogger(__name__)

HOLDS_PER_SHARD = 500
ROUNDS_MAX = 20
UNACKED_AGE_MS = 2_000
UNACKED_LIMIT = 1_000
RETIRE_LIMIT = 1_000
CLOSED_LIMIT = 64
SCANS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep did."""

    presumed: int
    found_resolved: int
    resent: int
    retired: int


class Sweeper:
    """One sweep over everything, on its own connections."""

    def __init__(self, *, store: ControlStore, redis: RedisClient) -> None:
        self._store, self._redis = store, redis
        self._epochs = EpochDirectory(store)
        self._grants = Grants(store=store, redis=redis, epochs=self._epochs)
        # Whoever did not answer is waited for once in a sweep, not once for each of its shards.
        self._silent: dict[RedisConnection | None, RedisUnavailable] = {}
        self._resolutions = Resolutions(store=store, redis=redis, epochs=self._epochs, grants=self._grants)

    async def sweep(self) -> Sweep:
        """Sweeps once. Raises StorageUnavailable, RedisUnavailable: the next sweep finds what this one left.

        Where one master of a cluster is away, all that the others have is swept before it is raised.
        """
        await self._epochs.reload()
        self._silent.clear()
        presumed = found = 0
        for outcome in await self._expired():
            if outcome.replayed:
                found += 1
            else:
                presumed += 1
        unacked = await self._store.unacked(age_ms=UNACKED_AGE_MS, limit=UNACKED_LIMIT)
        await self._grants.deliver(unacked)
        retired = await self._retire_ended()
        await self._grants.settle_down()
        for error in self._silent.values():
            raise error
        return Sweep(presumed, found, len(unacked), retired)

    async def _expired(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for row in await self._store.swept_epochs():
            keys = Keys(shard=row.shard, epoch_id=row.epoch_id)
            server: RedisConnection | None = None
            try:
                server = await self._redis.near(keys.expiries)
                if server not in self._silent:
                    outcomes += await self._expired_in(row, keys, server)
            except RedisUnavailable as error:
                self._silent[server] = error
        return outcomes

    async def _expired_in(self, row: EpochRow, keys: Keys, server: RedisConnection) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for _ in range(ROUNDS_MAX):
            batch = await self._expired_holds(keys, server)
            # Postgres first; the apply that deletes the hold in Redis follows each commit.
            told = await asyncio.gather(*(self._presume(keys, row.state, hold) for hold in batch))
            outcomes += [outcome for outcome in told if outcome is not None]
            if len(batch) < HOLDS_PER_SHARD:
                break
        return outcomes

    async def _expired_holds(self, keys: Keys, server: RedisConnection) -> list[Hold]:
        seconds, micros = await server.call("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        names = await self._redis.call(
            "ZRANGE", keys.expiries, "-inf", now_ms, "BYSCORE", "LIMIT", 0, HOLDS_PER_SHARD
        )
        fields = ("at", "ex", "inc", "body")
        found = await asyncio.gather(*(self._redis.call("HMGET", name, *fields) for name in names))
        holds = []
        for name, (at, ex, inc, body) in zip(names, found, strict=True):
            if body is None:
                # Resolved between the two reads; its entry goes with the hold, or here.
                await self._redis.call("ZREM", keys.expiries, name)
            else:
                holds.append(hold_from(body=body, placed_ms=int(at), expires_ms=int(ex), incarnations=inc))
        return holds

    async def _presume(self, keys: Keys, state: str, hold: Hold) -> Outcome | None:
        try:
            outcome = await self._resolutions.resolve(hold, presumption(hold))
        except Unrecordable:
            # It stays held, which is safe; one bad row must not keep the sweep from all others.
            return None
        if state != "open":
            # No apply follows a closed epoch's resolution: what is left of the hold is only a trace.
            await self._redis.call("ZREM", keys.expiries, keys.hold(hold.body.hold_id))
            await self._redis.call("DEL", keys.hold(hold.body.hold_id))
        return outcome

    async def clean_up(self) -> int:
        """Unlinks what closed epochs left in Redis, once their holds are swept; returns how many keys went.

        Raises StorageUnavailable, RedisUnavailable: the next time finds what this one left.
        """
        removed = 0
        for row in await self._store.closed_epochs(CLOSED_LIMIT):
            keys = Keys(shard=row.shard, epoch_id=row.epoch_id)
            if await self._redis.call("EXISTS", keys.expiries):
                continue
            server = await self._redis.near(keys.expiries)
            cursor = b"0"
            for _ in range(SCANS_MAX):
                cursor, names = await server.call("SCAN", cursor, "MATCH", keys.pattern(), "COUNT", 1000)
                if names:
                    removed += int(await self._redis.call("UNLINK", *names))
                if cursor == b"0":
                    break
            if await self._redis.near(keys.expiries) is server:
                # Otherwise the slot went to another master meanwhile, with whatever was not found here.
                await self._store.cleaned(row.epoch_id)
        return removed

    async def _retire_ended(self) -> int:
        """Gives up counters whose window is over and whose last hold has expired, so that Redis does not fill up."""
        rows = await self._store.ended_grants(MAX_HOLD_LIFE_SECONDS + GRACE_SECONDS, RETIRE_LIMIT)
        by_shard: dict[int, list[Row]] = {}
        for row in rows:
            by_shard.setdefault(row["shard"], []).append(row)
        retired = 0
        for shard, group in by_shard.items():
            await self._store.retire(shard, group)
            answers = []
            server: RedisConnection | None = None
            try:
                server = await self._redis.near(epoch_key(shard))
                if server in self._silent:
                    continue
                for row in group:
                    keys = Keys(shard=shard, epoch_id=row["epoch"])
                    # No tombstone: no hold can be placed in a window that is over.
                    reply = await self._redis.evalsha(
                        ScriptSet(row["scripts"]).retire, [keys.counter(row["counter"])], [row["inc"], "1"]
                    )
                    answers.append({**row, "used": reply[1] if reply[0] == b"RETIRED" else None})
            except NoScript:
                pass
            except RedisUnavailable as error:
                self._silent[server] = error
            if answers:
                await self._store.retired(answers)
                retired += len(answers)
        return retired
