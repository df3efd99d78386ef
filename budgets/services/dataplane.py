"""Puts the gateway's services together, on one pool of PostgreSQL connections and one Redis connection a master."""

from __future__ import annotations

from collections.abc import Mapping

from budgets.domain.authorization import Keyring
from budgets.services.books import Books
from budgets.services.decisions import DecisionLog
from budgets.services.epochs import CountersUnavailable, EpochDirectory
from budgets.services.grants import Grants
from budgets.services.guards import Guards
from budgets.services.holds import Holds
from budgets.services.open_checks import OpenChecks
from budgets.services.resolutions import Resolutions
from budgets.services.runs import Runs
from budgets.services.snapshots import Snapshots
from budgets.services.subjects import Subjects
from budgets.services.waiting import Waiters
from budgets.stores.postgres.decisions import DecisionStore
from budgets.stores.postgres.money import MoneyStore, StorageUnavailable
from budgets.stores.postgres.runs import RunStore
from budgets.stores.redis.cluster import connect
from budgets.stores.redis.connection import RedisError, RedisUnavailable

__all__ = ["CountersUnavailable", "DataPlane", "StorageUnavailable"]


class DataPlane:
    """Everything that decides about calls, in one process. Call `start` first and `stop` last."""

    def __init__(
        self,
        *,
        database_url: str,
        redis_url: str,
        pepper: bytes,
        signing_keys: Mapping[str, bytes],
        signing_kid: str,
    ) -> None:
        self.keyring = Keyring(keys=signing_keys, kid=signing_kid)
        self._store = MoneyStore(database_url)
        self._redis = connect(redis_url)
        self._epochs = EpochDirectory(self._store)
        self._grants = Grants(store=self._store, redis=self._redis, epochs=self._epochs)
        waiters = Waiters()
        self.snapshots = Snapshots(store=self._store, redis=self._redis, epochs=self._epochs)
        self.books = Books(self._store)
        self.open_checks = OpenChecks(self._redis)
        self.subjects = Subjects(self._store)
        # A connection of its own: writing the log never keeps the money path waiting for one.
        self.decisions = DecisionLog(DecisionStore(database_url, connections=1))
        # Runs have connections of their own: a slow summary keeps no grant waiting.
        self._runs_store = RunStore(database_url, connections=2)
        self.runs = Runs(store=self._runs_store, redis=self._redis, epochs=self._epochs)
        guards = Guards(
            store=self._runs_store,
            redis=self._redis,
            epochs=self._epochs,
            snapshots=self.snapshots,
            runs=self.runs,
        )
        self.resolutions = Resolutions(
            store=self._store,
            redis=self._redis,
            epochs=self._epochs,
            grants=self._grants,
            on_apply=waiters.freed,
            on_cost=guards.settled,
        )
        self.holds = Holds(
            redis=self._redis,
            epochs=self._epochs,
            grants=self._grants,
            snapshots=self.snapshots,
            waiters=waiters,
            keyring=self.keyring,
            pepper=pepper,
            guards=guards,
        )

    async def start(self) -> None:
        """Connects, and loads what every decision needs. Raises StorageUnavailable."""
        await self._store.open()
        await self._runs_store.open()
        await self._epochs.start()
        await self.books.start()
        await self.snapshots.start()
        await self.subjects.start()
        await self.decisions.start()

    async def stop(self) -> None:
        """Commits what is queued and closes every connection."""
        await self.resolutions.idle()
        await self._grants.settle_down()
        for part in (self.decisions, self.subjects, self.snapshots, self.books, self._epochs):
            await part.stop()
        await self._redis.close()
        await self._runs_store.close()
        await self._store.close()

    async def missing(self) -> list[str]:
        """What is missing before every decision can be made; each a sentence for an operator."""
        missing = []
        try:
            if not any(row.state == "open" for row in await self._store.epochs()):
                missing.append("no epoch is open: the epoch controller is not running yet")
            elif not self._epochs.any_open():
                await self._epochs.reload()
        except StorageUnavailable as error:
            missing.append(f"PostgreSQL: {error}")
        try:
            await self._redis.ping()
        except (RedisUnavailable, RedisError) as error:
            missing.append(f"Redis: {error}")
        if not len(self.books.book):
            missing.append("the price book is empty: run `python manage.py prices seed`")
        return missing
