"""The one checker: recomputes the money path from its sources, and compares Redis with PostgreSQL while both are at work.

PostgreSQL's figures are read in one snapshot, Redis's in one script, so that what is in flight does not look like a
difference: it is in holds that Redis still has, or in resolutions that PostgreSQL got since. docs/escrow.md, section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from uuid import UUID

from budgets.domain.authorization import Hold, hold_from
from budgets.domain.escrow import SHARDS
from budgets.stores.postgres.control import ControlStore
from budgets.stores.postgres.money import EpochRow, Row
from budgets.stores.redis.connection import NoScript, RedisClient, Reply
from budgets.stores.redis.keys import Keys, shard_of
from budgets.stores.redis.scripts import ScriptSet

PAGE = 200
"""Counters in one look: Redis does nothing else meanwhile."""

NAMES_MAX = 20_000
"""Holds of a shard in one look; a shard with more in flight is not compared, and that is told."""

LOOKS_MAX = 5
"""How often a page is looked at until every hold in it is known, and until a difference is believed."""

LOOK_PAUSE_SECONDS = 0.05
READ_AT_ONCE = 500
OVERDUE_MS = 60_000
"""Expired holds are swept every two seconds: after a minute somebody should ask why not."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that is not what its sources say. Amounts in the counter's unit."""

    tenant_id: UUID | None
    object: str
    figure: str
    stored: int
    derived: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the counters that were looked at, in mixed units where budgets of several metrics exist."""

    counters: int
    entries: int
    open_holds: int
    stranded: int
    overrun: int
    unapplied: int = 0
    overdue: int = 0


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `unread` counters could not be compared with Redis: too much went on around them."""

    differences: tuple[Difference, ...]
    totals: Totals
    unread: int = 0


@dataclass(slots=True)
class Looked:
    """What comparing counters with Redis found; `unapplied` holds are resolved, and Redis has not heard of it yet."""

    differences: list[Difference] = field(default_factory=list)
    counters: int = 0
    open_holds: int = 0
    unapplied: int = 0
    overdue: int = 0
    unread: int = 0

    def add(self, other: Looked) -> None:
        """Adds what another look found."""
        self.differences += other.differences
        self.counters += other.counters
        self.open_holds += other.open_holds
        self.unapplied += other.unapplied
        self.overdue += other.overdue
        self.unread += other.unread


async def verify(*, store: ControlStore, redis: RedisClient, tenant_id: UUID | None) -> Verification:
    """Compares every figure with its sources. Raises StorageUnavailable, RedisUnavailable."""
    found = differences_of(await store.verify(tenant_id))
    looked = Looked()
    shards = [shard_of(tenant_id)] if tenant_id else range(SHARDS)
    epochs = {row.shard: row for row in await store.epochs() if row.state == "open"}
    for shard in shards:
        if shard in epochs:
            looked.add(await ShardLook(store, redis, epochs[shard], tenant_id).all())
    counters, entries, stranded, overrun = await store.totals(tenant_id)
    totals = Totals(counters, entries, looked.open_holds, stranded, overrun, looked.unapplied, looked.overdue)
    return Verification((*found, *looked.differences), totals, looked.unread)


def differences_of(rows: Sequence[Row]) -> list[Difference]:
    """The store's rows as differences."""
    return [Difference(r["tenant"], r["object"], r["figure"], r["stored"], r["derived"]) for r in rows]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One instant of Redis: the holds of the shard, and each counter's inc, seq, chunk, used and held or None."""

    at_ms: int
    holds: list[Hold]
    figures: list[list[bytes] | None]


class ShardLook:
    """Compares the live counters of one shard's open epoch, of one tenant or of all, with Redis."""

    def __init__(
        self, store: ControlStore, redis: RedisClient, epoch: EpochRow, tenant_id: UUID | None
    ) -> None:
        self._store, self._redis, self._epoch, self._tenant_id = store, redis, epoch, tenant_id
        self._keys = Keys(shard=epoch.shard, epoch_id=epoch.epoch_id)
        self._known: dict[bytes, Hold] = {}

    async def all(self) -> Looked:
        """Compares every counter."""
        rows, looked = await self.counters(), Looked()
        for start in range(0, max(1, len(rows)), PAGE):
            looked.add(await self.page(rows[start : start + PAGE], count_holds=start == 0))
        return looked

    async def counters(self) -> list[tuple[UUID, UUID, int]]:
        """Tenant, counter and incarnation of what is live, in a lasting order."""
        return await self._store.live_counters(self._epoch.epoch_id, self._tenant_id)

    async def page(self, rows: list[tuple[UUID, UUID, int]], *, count_holds: bool) -> Looked:
        """Compares some counters. A difference counts when every look at them finds the same."""
        looked = Looked(counters=len(rows))
        lasting: set[Difference] | None = None
        for number in range(LOOKS_MAX):
            if number:
                await asyncio.sleep(LOOK_PAUSE_SECONDS)
            seen = await self._look(rows)
            if seen is None:
                looked.unread = len(rows)
                return looked
            found, looked.unapplied = await self._compare(rows, seen)
            if count_holds and number == 0:
                looked.open_holds = len(seen.holds)
                looked.overdue = sum(hold.expires_ms < seen.at_ms - OVERDUE_MS for hold in seen.holds)
            lasting = set(found) if lasting is None else _still(lasting, found)
            if not lasting:
                return looked
        looked.differences = sorted(lasting or (), key=lambda d: (d.object, d.figure))
        return looked

    async def _look(self, rows: list[tuple[UUID, UUID, int]]) -> _Seen | None:
        script = ScriptSet(self._epoch.scripts).look
        keys = [
            self._keys.epoch,
            self._keys.expiries,
            *(self._keys.counter(counter) for _, counter, _ in rows),
        ]
        for _ in range(LOOKS_MAX):
            try:
                # An epoch that an older version opened has no such script; the controller closes it as planned.
                reply: Reply = (
                    await self._redis.evalsha(script, keys, [NAMES_MAX]) if script else [b"MANY", 0]
                )
            except NoScript:
                # Redis was lost: the controller closes this epoch, and nothing of it is compared any more.
                return None
            if reply[0] != b"LOOK":
                return None
            names = reply[2]
            if await self._read([name for name in names if name not in self._known]):
                holds = [self._known[name] for name in names]
                mine = [h for h in holds if self._tenant_id in (None, h.body.tenant_id)]
                figures = [None if values[0] is None else values for values in reply[3:]]
                return _Seen(int(reply[1]), mine, figures)
        return None

    async def _read(self, names: list[bytes]) -> bool:
        """Reads holds not known yet; False if one went meanwhile, so that nobody can say what it held."""
        complete = True
        for start in range(0, len(names), READ_AT_ONCE):
            some = names[start : start + READ_AT_ONCE]
            fields = ("at", "ex", "inc", "body")
            found = await asyncio.gather(*(self._redis.call("HMGET", name, *fields) for name in some))
            for name, (at, ex, inc, body) in zip(some, found, strict=True):
                if body is None:
                    complete = False
                else:
                    self._known[name] = hold_from(
                        body=body, placed_ms=int(at), expires_ms=int(ex), incarnations=inc
                    )
        return complete

    async def _compare(self, rows: list[tuple[UUID, UUID, int]], seen: _Seen) -> tuple[list[Difference], int]:
        wanted = {(counter, inc) for _, counter, inc in rows}
        held: dict[tuple[UUID, int], int] = dict.fromkeys(wanted, 0)
        holds: list[tuple[UUID, date]] = []
        for hold in seen.holds:
            touched = False
            for counter, incarnation in zip(hold.body.counters, hold.incarnations, strict=True):
                key = (counter.counter_id, incarnation)
                if not counter.rate and key in held:
                    held[key] += counter.amount
                    touched = True
            if touched:
                placed = datetime.fromtimestamp(hold.placed_ms / 1000, UTC).date()
                holds.append((hold.body.hold_id, placed.replace(day=1)))
        known = await self._store.live_figures(
            self._epoch.epoch_id,
            [(tenant, counter) for tenant, counter, _ in rows],
            holds,
            datetime.fromtimestamp(seen.at_ms / 1000, UTC),
        )
        figures = {
            row[1:]: values
            for row, values in zip(rows, seen.figures, strict=True)
            if values is not None and int(values[0]) == row[2]
        }
        found = []
        for row in known:
            key = (row["counter"], row["inc"])
            if key not in wanted:
                continue
            name = f"{row['counter']} epoch {self._epoch.epoch_id} incarnation {row['inc']}"
            found += [
                Difference(row["tenant"], name, figure, stored, derived)
                for figure, stored, derived in _figures(row, figures.get(key), held[key])
                if stored != derived
            ]
        return found, known[0]["unapplied"] if known else 0


def _figures(row: Row, values: list[bytes] | None, held: int) -> list[tuple[str, int, int]]:
    """Each figure as it stands and as it should be."""
    if values is None:
        return [("key in Redis", 0, 1)] if row["acked_seq"] else []
    _, seq, chunk, used, in_flight = (int(value) for value in values)
    figures = [("redis held", in_flight, held)]
    if row["acked_seq"] == row["seq"] == seq:
        # A newer message is on its way otherwise: what it will change is not compared.
        free_and_held = row["granted"] - used + in_flight - row["due"]
        figures.append(("redis free and held", free_and_held, row["authority"] - row["clamped"]))
        if not row["warns"] and not row["clamped"]:
            # What warns, or once did, was used beyond its grant: its chunk in Redis then follows its use.
            figures.append(("redis chunk", chunk, row["granted"]))
            figures.append(("redis used above its chunk", max(0, used - chunk), 0))
    return figures


def _still(before: set[Difference], found: list[Difference]) -> set[Difference]:
    """Those of `found` that differed before, by the same amount."""
    known = {(d.object, d.figure, d.stored - d.derived) for d in before}
    return {d for d in found if (d.object, d.figure, d.stored - d.derived) in known}
