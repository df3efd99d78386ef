"""What operators and tasks ask of the escrow: control, status, sweeps, planned close, write-off, verification."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import redis as redis_sync

from budgets.domain.escrow import GRACE_SECONDS, MAX_HOLD_LIFE_SECONDS, SHARDS
from budgets.services.checking import Round, check_round
from budgets.services.epochs import EpochDirectory
from budgets.services.grants import Grants
from budgets.services.recovery import CloseResult, Controller
from budgets.services.sweeping import Sweep, Sweeper
from budgets.services.verification import Verification, verify
from budgets.stores.postgres.control import ControlStore, WriteoffTooEarly
from budgets.stores.postgres.money import EpochRow, Row, StorageUnavailable
from budgets.stores.redis.cluster import connect
from budgets.stores.redis.connection import RedisClient, RedisUnavailable
from budgets.stores.redis.keys import epoch_key
from noburn.kit import ids
from noburn.kit.redis_cluster import servers_of, slot_of

STRANDED_MAX = 1_000
SLOTS_SECONDS = 5.0
WRITEOFF_WAIT_SECONDS = MAX_HOLD_LIFE_SECONDS + GRACE_SECONDS

__all__ = [
    "Operations",
    "RedisUnavailable",
    "Status",
    "StorageUnavailable",
    "WriteoffTooEarly",
    "whereabouts",
]


@dataclass(frozen=True, slots=True)
class Status:
    """The epochs that are not closed, and what is stranded."""

    epochs: list[EpochRow]
    stranded: list[Row]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a shard's keys are: their hash slot, and the server that has it now, as host and port or path."""

    shard: int
    slot: int
    server: str


def whereabouts(*, redis_url: str) -> list[Whereabouts]:
    """Where each shard's keys are. Raises RedisUnavailable."""
    keys = {shard: epoch_key(shard) for shard in range(SHARDS)}
    try:
        servers = servers_of(redis_url, keys.values(), seconds=SLOTS_SECONDS)
    except redis_sync.RedisError as error:
        raise RedisUnavailable(str(error)) from error
    # Without scheme and password.
    shown = {url: url.rpartition("@")[2].rpartition("//")[2] for url in servers.values()}
    return [Whereabouts(shard, slot_of(key), shown[servers[key]]) for shard, key in keys.items()]


class Operations:
    """The operator's commands."""

    def __init__(self, *, store: ControlStore, redis: RedisClient) -> None:
        self._store, self._redis = store, redis
        self._controller = Controller(store=store, redis=redis)

    @classmethod
    @asynccontextmanager
    async def connected(cls, *, database_url: str, redis_url: str) -> AsyncIterator[Operations]:
        """Operations on connections of their own."""
        store, redis = ControlStore(database_url, connections=4), connect(redis_url)
        await store.open()
        try:
            yield cls(store=store, redis=redis)
        finally:
            await redis.close()
            await store.close()

    async def control(self) -> None:
        """Runs the recovery controller until cancelled."""
        await self._controller.run()

    async def recover(self) -> int:
        """One round of the controller; returns how many epochs it opened."""
        return await self._controller.round(renew=True)

    async def upgrade(self) -> int:
        """Closes, as planned, the epochs that another version's controller opened; returns how many."""
        return await self._controller.upgrade()

    async def sweep(self) -> Sweep:
        """One sweep: see Sweeper."""
        return await Sweeper(store=self._store, redis=self._redis).sweep()

    async def clean_up(self) -> int:
        """Removes what closed epochs left in Redis; returns how many keys went."""
        return await Sweeper(store=self._store, redis=self._redis).clean_up()

    async def make_partitions(self, months: int) -> int:
        """Makes the partitions of this and the coming months; returns how many were new."""
        return await self._store.make_partitions(months)

    async def status(self) -> Status:
        """The state of every shard."""
        return Status(await self._store.epochs(), await self._store.stranded(STRANDED_MAX))

    async def close(self, shard: int) -> CloseResult:
        """A planned close of one shard's epoch. Raises EpochFailed."""
        return await self._controller.close(shard)

    async def write_off(self, row: Row, *, actor: str, reason: str) -> int:
        """Writes off what one incarnation locks; returns the amount. Raises WriteoffTooEarly."""
        amount, message = await self._store.writeoff(
            row=row,
            hold_id=ids.new_uuid(datetime.now(UTC)),
            wait_seconds=WRITEOFF_WAIT_SECONDS,
            actor=actor,
            reason=reason,
        )
        if message is not None:
            epochs = EpochDirectory(self._store)
            await epochs.reload()
            grants = Grants(store=self._store, redis=self._redis, epochs=epochs)
            await grants.deliver([message])
            await grants.settle_down()
        return amount

    async def release(self) -> int:
        """Writes off what budgets with `on_epoch_close: release` have stranded; returns how many rows it freed."""
        rows = await self._store.releasable(WRITEOFF_WAIT_SECONDS, STRANDED_MAX)
        for row in rows:
            await self.write_off(row, actor="timer", reason="on_epoch_close: release")
        return len(rows)

    async def used_shards(self) -> list[int]:
        """The shards that hold authority which a planned close would give back."""
        return await self._store.used_epochs()

    async def verify(self, tenant_id: UUID | None) -> Verification:
        """Recomputes everything from its sources."""
        return await verify(store=self._store, redis=self._redis, tenant_id=tenant_id)

    async def check(self, *, seconds: float) -> Round:
        """One round of the checker, within about so many seconds."""
        return await check_round(store=self._store, redis=self._redis, seconds=seconds)
