"""The checker's minute: what changed, then Redis, then tenants in turns from nothing, each within its time.

It compares and tells; it never mends. What a round does not get to is counted as behind, and the next one goes on there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from budgets.services.verification import PAGE, Difference, Looked, ShardLook, differences_of
from budgets.stores.postgres.control import ControlStore
from budgets.stores.postgres.money import StorageUnavailable
from budgets.stores.redis.connection import RedisClient, RedisUnavailable

log = logging.getLogger(__name__)

ENTRIES_AT_ONCE = 20_000
TURNS_MAX = 50
CHANGES_SHARE, REDIS_SHARE = 0.4, 0.3
"""Of a round's time; the recount takes what is left."""


@dataclass(slots=True)
class Round:
    """What one round found. `busy`: another worker is at it. `moved`: a restored dump, where positions mean nothing."""

    differences: list[Difference] = field(default_factory=list)
    busy: bool = False
    moved: bool = False
    entries: int = 0
    compared: int = 0
    unread: int = 0
    overdue: int = 0
    recounted: int = 0


async def check_round(
    *,
    store: ControlStore,
    redis: RedisClient,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Round:
    """One round within about `seconds`. Raises StorageUnavailable."""
    found, began = Round(), clock()
    await _changes(found, store, until=began + seconds * CHANGES_SHARE, clock=clock)
    if found.busy:
        return found
    try:
        await _redis(found, store, redis, until=clock() + seconds * REDIS_SHARE, clock=clock)
    except RedisUnavailable as error:
        # PostgreSQL's own figures are checked all the same; the age of this part's last round tells that it is missing.
        log.warning("counters were not compared with Redis: %s", error)
    await _recount(found, store, until=began + seconds, clock=clock)
    return found


async def _changes(found: Round, store: ControlStore, *, until: float, clock: Callable[[], float]) -> None:
    """Follows the ledger; compares only once it has caught up."""
    began, differences, behind = clock(), [], 0
    while True:
        answer = await store.verify_changes(ENTRIES_AT_ONCE, seconds=max(5.0, until - clock()))
        found.busy, found.moved = bool(answer.get("busy")), bool(answer.get("moved"))
        if found.busy:
            return
        if found.moved:
            behind = 1
            break
        found.entries += answer["entries"]
        if not answer["more"]:
            found.compared = answer["compared"]
            differences = [
                Difference(UUID(tenant), name, figure, stored, derived)
                for tenant, name, figure, stored, derived in answer["wrong"]
            ]
            break
        behind = ENTRIES_AT_ONCE
        if clock() >= until:
            break
        behind = 0
    found.differences += differences
    await store.verify_note(
        "changes",
        took_ms=int((clock() - began) * 1000),
        looked_at=found.compared,
        differences=len(differences),
        behind=behind,
        details={"entries": found.entries, "moved": found.moved},
    )


async def _redis(
    found: Round, store: ControlStore, redis: RedisClient, *, until: float, clock: Callable[[], float]
) -> None:
    """Compares counters with Redis, shard by shard, beginning where the last round ended."""
    began, looked = clock(), Looked()
    shard, *after = (await store.verify_noted("redis")).get("from", [0, "", ""])
    epochs = [row for row in await store.epochs() if row.state == "open"]
    behind, stopped = 0, None
    for epoch in [e for e in epochs if e.shard >= shard] + [e for e in epochs if e.shard < shard]:
        look = ShardLook(store, redis, epoch, None)
        rows = await look.counters()
        if epoch.shard == shard:
            rows = [row for row in rows if [str(row[0]), str(row[1])] >= after]
        for start in range(0, max(1, len(rows)), PAGE):
            if clock() >= until:
                behind += len(rows) - start
                stopped = (
                    stopped or [epoch.shard, *(str(part) for part in rows[start][:2])] if rows else stopped
                )
                break
            looked.add(await look.page(rows[start : start + PAGE], count_holds=start == 0))
    found.differences += looked.differences
    found.unread, found.overdue = looked.unread, looked.overdue
    await store.verify_note(
        "redis",
        took_ms=int((clock() - began) * 1000),
        looked_at=looked.counters,
        differences=len(looked.differences),
        behind=behind + looked.unread,
        details={
            "from": stopped or [0, "", ""],
            "open_holds": looked.open_holds,
            "unapplied": looked.unapplied,
            "overdue": looked.overdue,
            "unread": looked.unread,
        },
    )


async def _recount(found: Round, store: ControlStore, *, until: float, clock: Callable[[], float]) -> None:
    """Recomputes tenants from nothing in the time that is left, one at least."""
    began, differences, gave_up = clock(), 0, 0
    for tenant_id in await store.verify_next(TURNS_MAX):
        left = until - clock()
        if left <= 0 and found.recounted + gave_up:
            break
        try:
            rows = await store.verify(tenant_id, seconds=max(1.0, left))
        except StorageUnavailable:
            # Too large for a minute, or PostgreSQL is away: then noting it fails as well, and ends the round.
            gave_up += 1
            await store.verify_turn(tenant_id, None)
            continue
        found.recounted += 1
        known = {(d.tenant_id, d.object, d.figure) for d in found.differences}
        found.differences += [
            d for d in differences_of(rows) if (d.tenant_id, d.object, d.figure) not in known
        ]
        differences += len(rows)
        await store.verify_turn(tenant_id, len(rows))
    await store.verify_note(
        "recount",
        took_ms=int((clock() - began) * 1000),
        looked_at=found.recounted,
        differences=differences,
        behind=gave_up,
        details={},
    )
