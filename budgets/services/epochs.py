"""A gateway's view of the epochs: which scripts and keys a shard has now. Opening and closing them: recovery.py."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from uuid import UUID

from budgets.services.polling import Poller
from budgets.stores.postgres.money import MoneyStore, StorageUnavailable
from budgets.stores.redis.keys import Keys, shard_of
from budgets.stores.redis.scripts import ScriptSet

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
RELOAD_SECONDS_MIN = 0.05
RECOVERY_SECONDS = 3.0
"""How long a call waits for the controller to open a new epoch before it is told to come back."""


class CountersUnavailable(Exception):
    """Redis cannot be used now; the text says why. Nothing was placed, or the same Idempotency-Key finds it again."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One open epoch: its id, its key names and its scripts' digests."""

    epoch_id: UUID
    shard: int
    keys: Keys
    scripts: ScriptSet


class EpochDirectory:
    """The open epochs by shard, polled from PostgreSQL and read anew when a script says that one is gone."""

    def __init__(self, store: MoneyStore) -> None:
        self._store = store
        self._by_shard: dict[int, Epoch] = {}
        self._reloading: asyncio.Task[None] | None = None
        self._poller = Poller(self.reload, seconds=POLL_SECONDS, what="epochs")

    async def start(self) -> None:
        """Loads the epochs and goes on polling."""
        await self._load()
        self._poller.start()

    async def stop(self) -> None:
        """Stops polling."""
        await self._poller.stop()

    def current(self, tenant_id: UUID) -> Epoch | None:
        """The open epoch of a tenant's shard as last seen."""
        return self._by_shard.get(shard_of(tenant_id))

    def any_open(self) -> bool:
        """Whether any shard has an open epoch."""
        return bool(self._by_shard)

    def by_id(self, epoch_id: UUID, tenant_id: UUID) -> Epoch | None:
        """The tenant's epoch if it is still the one with this id."""
        epoch = self.current(tenant_id)
        return epoch if epoch is not None and epoch.epoch_id == epoch_id else None

    async def renewed(self, tenant_id: UUID, *, than: UUID | None) -> Epoch:
        """Waits until the tenant's shard has another epoch than `than`. Raises CountersUnavailable."""
        deadline = asyncio.get_running_loop().time() + RECOVERY_SECONDS
        while True:
            await self.reload()
            epoch = self.current(tenant_id)
            if epoch is not None and epoch.epoch_id != than:
                return epoch
            if asyncio.get_running_loop().time() >= deadline:
                raise CountersUnavailable("the budget counters are being recovered")
            await asyncio.sleep(RELOAD_SECONDS_MIN)

    async def reload(self) -> None:
        """Reads the epochs from PostgreSQL; callers at the same time share one read. Keeps what it has on failure."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._load_quietly())
        await asyncio.shield(self._reloading)

    async def _load(self) -> None:
        found: dict[int, Epoch] = {}
        for row in await self._store.epochs():
            if row.state != "open":
                continue
            known = self._by_shard.get(row.shard)
            if known is not None and known.epoch_id == row.epoch_id:
                found[row.shard] = known
            else:
                keys = Keys(shard=row.shard, epoch_id=row.epoch_id)
                found[row.shard] = Epoch(row.epoch_id, row.shard, keys, ScriptSet(row.scripts))
        self._by_shard = found

    async def _load_quietly(self) -> None:
        try:
            await self._load()
        except StorageUnavailable as error:
            # Chunks are spent on while valid_until holds, so an unreachable database changes nothing yet.
            log.warning("epochs cannot be read: %s", error)
        except Exception:
            log.exception("epochs cannot be read")
