"""Pruning what nobody keeps any more: decisions by each tenant's choice, counters of hours. Money's records stay."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from budgets.stores.postgres.decisions import RetentionStore
from budgets.stores.postgres.money import StorageUnavailable

BATCH: Final = 2_000
ROWS_MAX: Final = 1_000_000
SECONDS_MAX: Final = 60.0
"""The bounds of one run, well within a task's; what is left goes in the next one."""

DAYS_AHEAD: Final = 14

__all__ = ["Pruned", "Retention", "StorageUnavailable"]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one run removed. `more`: it stopped at its bound."""

    days: int
    decisions: int
    more: bool


class Retention:
    """Runs as the application, on a connection of its own. All of it may be repeated, interrupted, run twice at once."""

    def __init__(self, store: RetentionStore) -> None:
        self._store = store

    @classmethod
    @asynccontextmanager
    async def connected(cls, *, database_url: str) -> AsyncIterator[Retention]:
        """Retention on a connection of its own."""
        store = RetentionStore(database_url, connections=1)
        await store.open()
        try:
            yield cls(store)
        finally:
            await store.close()

    async def make_days(self, *, now: datetime, days: int = DAYS_AHEAD) -> int:
        """Makes the partitions of decisions from yesterday on; returns how many were new. Raises StorageUnavailable."""
        return await self._store.make_days(now.date() - timedelta(days=1), days)

    async def prune_decisions(self, *, now: datetime) -> Pruned:
        """Drops whole days that no tenant keeps, and deletes what single tenants keep no longer.

        Raises StorageUnavailable, also where a reader keeps a day from being dropped for 3 s.
        """
        ends = time.monotonic() + SECONDS_MAX
        dropped, decisions = await self._store.drop_days(now), 0
        for day in await self._store.days(now):
            while (deleted := await self._store.prune_decisions(now, day, BATCH)) > 0:
                decisions += deleted
                if decisions >= ROWS_MAX or time.monotonic() > ends:
                    return Pruned(dropped, decisions, more=True)
                if deleted < BATCH:
                    break
        return Pruned(dropped, decisions, more=False)

    async def prune_counters(self, *, now: datetime, days: int) -> int:
        """Deletes settled counters of hours that ended more than `days` ago; returns how many.

        Raises StorageUnavailable.
        """
        ends = time.monotonic() + SECONDS_MAX
        before, counters = now - timedelta(days=days), 0
        while counters < ROWS_MAX and time.monotonic() < ends:
            deleted = await self._store.prune_counters(before, BATCH)
            counters += deleted
            if deleted < BATCH:
                break
        return counters
