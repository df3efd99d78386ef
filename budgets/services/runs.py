"""Runs: started, closed, told to Redis, and found on the hot path. Rules: docs/runs.md.

PostgreSQL has them. Redis has a copy of those in use, with the version that every call's script compares, so that a stop
holds for the next call on any gateway; after a loss of Redis, or two minutes, a run is read from PostgreSQL again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from budgets.domain import runs
from budgets.domain.demands import BUDGETS_PER_CALL_MAX, Place, TooManyBudgets
from budgets.domain.policy import Scope
from budgets.domain.runs import RunRecord
from budgets.services.epochs import CountersUnavailable, Epoch, EpochDirectory
from budgets.stores.postgres.runs import RunStore
from budgets.stores.redis.cluster import connect
from budgets.stores.redis.connection import NoScript, RedisClient, RedisError, RedisUnavailable
from noburn.kit import ids

KNOWN_MAX = 50_000
TELL_ROUNDS_MAX = 4
TELL_AT_ONCE = 200
DUE_MAX = 500

LIFE_MS = 120_000
"""For how long Redis has a run before it is read from PostgreSQL again: a lost message is made good by then."""


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be started; amounts are nano-USD, None: no such cap."""

    run: str
    digest: str
    parent: str | None = None
    project: str = ""
    customer: str = ""
    user: str = ""
    metadata: dict[str, str] = {}
    cap_nano: int | None = None
    cap_steps: int | None = None
    cap_seconds: int | None = None
    cap_depth: int | None = None
    idle_seconds: int = runs.IDLE_SECONDS_DEFAULT


class Known(msgspec.Struct, frozen=True):
    """A run with the counters that its calls fall under."""

    record: RunRecord
    places: tuple[Place, ...]


class Started(msgspec.Struct, frozen=True):
    """How a start went: `outcome` as in sql/runs.sql; the record is the run's, or that of what stands in its way."""

    outcome: str
    record: RunRecord | None
    shown: dict[str, Any]


class Closed(msgspec.Struct, frozen=True):
    """A run that is over. `now`: this request closed it, and `below` runs with it."""

    record: RunRecord
    now: bool
    below: int
    shown: dict[str, Any]
    summary: dict[str, Any]


class Runs:
    """The runs of a gateway's tenants."""

    def __init__(self, *, store: RunStore, redis: RedisClient, epochs: EpochDirectory) -> None:
        self._store, self._redis, self._epochs = store, redis, epochs
        self._known: OrderedDict[tuple[UUID, str], Known] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def connected(cls, *, database_url: str, redis_url: str) -> AsyncIterator[Runs]:
        """Runs on connections of their own, for tasks and pages; the database's role must be the application's."""
        store, redis = RunStore(database_url, connections=1), connect(redis_url)
        await store.open()
        epochs = EpochDirectory(store)
        await epochs.reload()
        try:
            yield cls(store=store, redis=redis, epochs=epochs)
        finally:
            await redis.close()
            await store.close()

    async def known(self, tenant_id: UUID, run: str, epoch: Epoch) -> Known:
        """What is known of a run here; read from Redis, else from PostgreSQL, at first sight.

        A call's script then compares the version. Raises CountersUnavailable, StorageUnavailable.
        """
        known = self._known.get((tenant_id, run))
        if known is not None:
            self._known.move_to_end((tenant_id, run))
            return known
        key = epoch.keys.run(runs.key_name(tenant_id, run))
        try:
            body = await self._redis.call("HGET", key, "body")
        except (RedisUnavailable, RedisError) as error:
            raise CountersUnavailable(str(error)) from error
        return self._keep(tenant_id, runs.decode(body)) if body else await self.read(tenant_id, run)

    def heard(self, tenant_id: UUID, body: bytes) -> Known:
        """Takes the later record that a script answered."""
        return self._keep(tenant_id, runs.decode(body))

    async def read(self, tenant_id: UUID, run: str) -> Known:
        """Reads a run from PostgreSQL and tells Redis. Raises CountersUnavailable, StorageUnavailable."""
        row = await self._store.seen(tenant_id, run)
        record = _record(row) if row is not None else RunRecord(run=run)
        await self._tell(tenant_id, [record])
        return self._keep(tenant_id, record)

    def _keep(self, tenant_id: UUID, record: RunRecord) -> Known:
        key = (tenant_id, record.run)
        held = self._known.get(key)
        if held is not None and held.record.version >= record.version:
            return held
        known = Known(record, tuple(runs.places_of(tenant_id, record)))
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return known

    async def start(self, tenant_id: UUID, run: NewRun) -> Started:
        """Starts a run; once this returns, its caps hold for every call. Raises CountersUnavailable, StorageUnavailable.

        The same start may be repeated: it answers as before, and tells Redis again.
        """
        row = {**msgspec.structs.asdict(run), "id": ids.new_uuid(datetime.now(UTC))}
        answer = await self._store.start(
            tenant_id, row, runs.cap_budget_ids(tenant_id), open_max=runs.OPEN_MAX
        )
        record = _record(answer["record"]) if "record" in answer else None
        if answer["outcome"] in ("started", "replayed") and record is not None:
            await self._tell(tenant_id, [record])
            self._keep(tenant_id, record)
        return Started(answer["outcome"], record, answer.get("shown", {}))

    async def close(
        self, tenant_id: UUID, run: str, *, state: str, reason: str, by: str, project: str = ""
    ) -> Closed | None:
        """Closes a run and all below it; once this returns, no call of theirs is let through. None: no such run.

        A run that is over stays as it is, and Redis is told again. Raises CountersUnavailable, StorageUnavailable.
        """
        answer = await self._store.close_run(
            tenant_id,
            run,
            state=state,
            reason=reason,
            by=by,
            project=project,
            fresh_id=ids.new_uuid(datetime.now(UTC)),
            budgets=runs.cap_budget_ids(tenant_id),
        )
        if answer is None:
            return None
        records = [_record(row) for row in answer["records"]]
        await self._tell(tenant_id, records)
        for record in records:
            self._keep(tenant_id, record)
        summary = await self._store.summary(tenant_id, run)
        return Closed(records[0], answer["now"], len(records) - 1, answer["shown"], summary)

    async def close_due(self) -> int:
        """Ends runs that are idle or past their seconds; returns how many."""
        closed = 0
        for row in await self._store.due(DUE_MAX):
            done = await self.close(
                UUID(row["tenant"]), row["run"], state="ended", reason=row["why"], by="noburn"
            )
            closed += 1 + done.below if done is not None and done.now else 0
        return closed

    async def _tell(self, tenant_id: UUID, records: Sequence[RunRecord]) -> None:
        for start in range(0, len(records), TELL_AT_ONCE):
            some = records[start : start + TELL_AT_ONCE]
            await asyncio.gather(*(self._tell_one(tenant_id, record) for record in some))

    async def _tell_one(self, tenant_id: UUID, record: RunRecord) -> None:
        """Tells Redis a record. Raises CountersUnavailable if it may not have heard."""
        epoch = self._epochs.current(tenant_id) or await self._epochs.renewed(tenant_id, than=None)
        for _ in range(TELL_ROUNDS_MAX):
            keys = [epoch.keys.epoch, epoch.keys.run(runs.key_name(tenant_id, record.run))]
            try:
                reply = await self._redis.evalsha(
                    epoch.scripts.run, keys, [record.version, runs.encode(record), LIFE_MS]
                )
            except NoScript:
                reply = [b"FENCED"]
            except (RedisUnavailable, RedisError) as error:
                raise CountersUnavailable(str(error)) from error
            if reply[0] != b"FENCED":
                return
            epoch = await self._epochs.renewed(tenant_id, than=epoch.epoch_id)
        raise CountersUnavailable("the counters did not come to rest; try again")


def _record(row: Any) -> RunRecord:
    return msgspec.convert(row, RunRecord)


def with_caps(places: Sequence[Place], known: Known) -> list[Place]:
    """A call's counters with those of its run's caps, the caps first. Raises TooManyBudgets.

    A wallet stands beside the sixteen, as in the matcher.
    """
    budgets = sum(place.rule.scope is not Scope.WALLET for place in places) + len(known.places)
    if budgets > BUDGETS_PER_CALL_MAX:
        raise TooManyBudgets(
            f"this call falls under {budgets} budgets and caps of runs; "
            f"at most {BUDGETS_PER_CALL_MAX} can be checked at once"
        )
    return [*known.places, *places]
