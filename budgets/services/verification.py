"""Recomputes the money path from its sources: counters from the ledger, grants from resolutions, Redis from grants."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from budgets.domain.authorization import hold_from
from budgets.domain.escrow import SHARDS
from budgets.stores.postgres.control import ControlStore
from budgets.stores.redis.connection import RedisClient
from budgets.stores.redis.keys import Keys, shard_of

SCAN_COUNT = 1000
SCANS_MAX = 1_000_000


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


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. Exact at rest; while calls are in flight Redis and PostgreSQL differ by those."""

    differences: tuple[Difference, ...]
    totals: Totals


async def verify(*, store: ControlStore, redis: RedisClient, tenant_id: UUID | None) -> Verification:
    """Compares every figure with its sources. Raises StorageUnavailable, RedisUnavailable."""
    found = [
        Difference(row["tenant"], row["object"], row["figure"], row["stored"], row["derived"])
        for row in await store.verify(tenant_id)
    ]
    open_holds = 0
    shards = [shard_of(tenant_id)] if tenant_id else range(SHARDS)
    epochs = {row.shard: row.epoch_id for row in await store.epochs() if row.state == "open"}
    for shard in shards:
        if shard in epochs:
            differences, holds = await _shard(store, redis, shard, epochs[shard], tenant_id)
            found += differences
            open_holds += holds
    counters, entries, stranded, overrun = await store.totals(tenant_id)
    return Verification(tuple(found), Totals(counters, entries, open_holds, stranded, overrun))


async def _shard(
    store: ControlStore, redis: RedisClient, shard: int, epoch_id: UUID, tenant_id: UUID | None
) -> tuple[list[Difference], int]:
    keys = Keys(shard=shard, epoch_id=epoch_id)
    held: dict[tuple[UUID, int], int] = defaultdict(int)
    holds = 0
    cursor = b"0"
    for _ in range(SCANS_MAX):
        cursor, members = await redis.call("ZSCAN", keys.expiries, cursor, "COUNT", SCAN_COUNT)
        for name in members[::2]:
            at, ex, inc, body = await redis.call("HMGET", name, "at", "ex", "inc", "body")
            if body is None:
                continue
            hold = hold_from(body=body, placed_ms=int(at), expires_ms=int(ex), incarnations=inc)
            if tenant_id in (None, hold.body.tenant_id):
                holds += 1
                for counter, incarnation in zip(hold.body.counters, hold.incarnations, strict=True):
                    if not counter.rate:
                        held[counter.counter_id, incarnation] += counter.amount
        if cursor == b"0":
            break
    found = []
    for row in await store.live_figures(epoch_id, tenant_id):
        fields = ("inc", "seq", "chunk", "used", "held")
        values = await redis.call("HMGET", keys.counter(row["counter"]), *fields)
        name = f"{row['counter']} epoch {epoch_id} incarnation {row['inc']}"
        if values[0] is None or int(values[0]) != row["inc"]:
            if row["acked_seq"]:
                found.append(Difference(row["tenant"], name, "key in Redis", 0, 1))
            continue
        chunk, used, in_flight = (int(value) for value in values[2:])
        figures = {
            "redis held": (in_flight, held[row["counter"], row["inc"]]),
            "redis free and held": (row["granted"] - used + in_flight, row["authority"] - row["clamped"]),
        }
        if not row["warns"] and not row["clamped"]:
            # What warns, or once did, was used beyond its grant: its chunk in Redis then follows its use.
            figures["redis chunk"] = (chunk, row["granted"])
        if int(values[1]) != row["seq"]:
            # A newer message is on its way: what it will change is not compared.
            figures = {"redis held": figures["redis held"]}
        found += [Difference(row["tenant"], name, f, a, b) for f, (a, b) in figures.items() if a != b]
    return found, holds
