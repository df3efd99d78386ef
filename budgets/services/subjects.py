"""Registers customers and users on their first call, in the background: no decision waits for it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from uuid import UUID

import psycopg

from budgets.services.polling import Poller
from budgets.stores.postgres.money import MoneyStore, StorageUnavailable

log = logging.getLogger(__name__)

KNOWN_MAX = 500_000
PENDING_MAX = 50_000
BATCH = 1_000
FLUSH_SECONDS = 0.5


class Subjects:
    """Remembers which subjects are registered, and registers new ones in batches."""

    def __init__(self, store: MoneyStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[UUID, str, str], None] = OrderedDict()
        self._pending: dict[tuple[UUID, str, str], None] = {}
        self._poller = Poller(self._flush, seconds=FLUSH_SECONDS, what="new subjects")

    async def start(self) -> None:
        """Starts the background flush."""
        self._poller.start()

    async def stop(self) -> None:
        """Registers what is pending and stops."""
        await self._poller.stop()
        await self._flush()

    def seen(self, tenant_id: UUID, customer: str, user: str) -> None:
        """Notes the subjects of an admitted call. Beyond the bound the rest is noted at their next call."""
        for kind, name in (("customer", customer), ("user", user)):
            key = (tenant_id, kind, name)
            if name and key not in self._known and len(self._pending) < PENDING_MAX:
                self._pending[key] = None

    async def _flush(self) -> None:
        while self._pending:
            tenant_id = next(iter(self._pending))[0]
            batch = [key for key in self._pending if key[0] == tenant_id][:BATCH]
            names = {kind: [key[2] for key in batch if key[1] == kind] for kind in ("customer", "user")}
            try:
                await self._store.touch_subjects(tenant_id, names["customer"], names["user"])
            except StorageUnavailable as error:
                log.info("new subjects are not registered yet: %s", error)
                return
            except psycopg.Error:
                # Names that the database refuses would be refused again: they go, and the others' turn comes.
                log.exception("%d new subjects cannot be registered", len(batch))
            for key in batch:
                # A second flush, at a shutdown, may have been faster.
                self._pending.pop(key, None)
                self._known[key] = None
            while len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
