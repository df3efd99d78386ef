"""Settle, void and presume: group commit into PostgreSQL, then the apply in Redis; docs/escrow.md, "Resolving"."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from budgets.domain.authorization import Hold
from budgets.domain.charging import AT_COST, Ceiling
from budgets.domain.policy import Metric
from budgets.domain.pricing_rates import Usage
from budgets.domain.pricing_settled import CostOrigin
from budgets.services.epochs import EpochDirectory
from budgets.services.grants import Grants
from budgets.stores.postgres.money import MoneyStore, Row, StorageUnavailable
from budgets.stores.redis.connection import Argument, NoScript, RedisClient, RedisError, RedisUnavailable
from budgets.stores.redis.keys import shard_of
from noburn.kit import ids

log = logging.getLogger(__name__)

BATCH_MAX = 500
QUEUE_MAX = 20_000


class SettleConflict(Exception):
    """The hold was resolved otherwise before: settled with another usage, or not open to this transition."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this hold is {state} already, with other contents")
        self.state = state


class Unrecordable(StorageUnavailable):
    """PostgreSQL refuses this one resolution whatever it is sent with: it was logged, and somebody has to look."""


class Overloaded(Exception):
    """More resolutions are waiting than can be committed soon; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is recorded of a hold now. Amounts in nano-USD; `replayed`: this call changed nothing."""

    state: str
    cost_nano: int
    held_nano: int
    replayed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a caller says of a call: `usage` None means that nothing was seen of it.

    `origin` says whose word the cost of a settled call is; None for what has no cost of its own.
    """

    state: str
    cost_nano: int
    tokens: int
    requests: int
    origin: CostOrigin | None = None
    usage: Usage | None = None
    reported_model: str = ""
    outcome: str = "ok"
    latency_ms: int | None = None
    flags: tuple[str, ...] = ()
    note: str = ""


@dataclass(slots=True)
class _Waiting:
    hold: Hold
    report: Report
    item: Row
    answer: asyncio.Future[Outcome]


def presumption(hold: Hold, *, flags: tuple[str, ...] = (), outcome: str = "expired") -> Report:
    """What is presumed of a hold that nobody settled: all of it."""
    body = hold.body
    tokens = body.input_tokens + body.n * body.max_output_tokens
    return Report("presumed", body.cost_nano, tokens, 1, outcome=outcome, flags=flags)


def void() -> Report:
    """A call that never reached the provider: nothing was used."""
    return Report("voided", 0, 0, 0, outcome="void")


def _digest(*told: object) -> str:
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=16).hexdigest()


def _digests(report: Report) -> tuple[str, str | None]:
    """By what a repeated report is recognised: what its caller said, and no price, since prices change.

    The second is how earlier releases recognised the same: by the cost, which they had reckoned themselves.
    """
    by_cost = _digest(report.state, report.cost_nano, report.tokens, report.usage)
    if report.origin in (None, CostOrigin.TOLD):
        return by_cost, None
    return _digest(report.state, None, report.tokens, report.usage, report.reported_model), by_cost


def _posted(hold: Hold, report: Report, *, rate: bool) -> list[int]:
    """What the report posts to the hold's counters of one kind, in their order and units."""
    counters = [c for c in hold.body.counters if c.rate is rate]
    if report.state == "presumed":
        return [0 if c.released_on_expiry else c.amount for c in counters]
    actual = {Metric.USD: report.cost_nano, Metric.TOKENS: report.tokens, Metric.REQUESTS: report.requests}
    return [
        _charge(hold, report, c.amount) if c.metric == Metric.CHARGE else actual[Metric(c.metric)]
        for c in counters
    ]


def _charge(hold: Hold, report: Report, held: int) -> int:
    """The most that the customer is charged for what was used, by the ceiling that the hold carries."""
    body, usage = hold.body, report.usage
    if report.state != "settled":
        return 0
    ceiling = body.ceiling or AT_COST
    if usage is None or (report.origin is CostOrigin.TOLD and usage == Usage()):
        # A cost without counts: of all things that are charged by the piece, what was held stands.
        by_cost = Ceiling(ceiling.cost_ppm)
        pieces = held - by_cost.charge_nano(cost_nano=body.cost_nano) if ceiling != by_cost else 0
        return max(0, pieces) + by_cost.charge_nano(cost_nano=report.cost_nano)
    return ceiling.charge_nano(
        cost_nano=report.cost_nano,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        images=usage.images,
        tool_calls=sum(usage.tool_calls.values()),
    )


def item_of(hold: Hold, report: Report) -> Row:
    """The row that `nb_resolve` takes; sql/resolve.sql tells its shape."""
    body = hold.body
    pairs = [(c, inc) for c, inc in zip(body.counters, hold.incarnations, strict=True) if not c.rate]
    digest, older = _digests(report)
    month = datetime.fromtimestamp(hold.placed_ms / 1000, UTC).date().replace(day=1)
    return {
        "hold": body.hold_id,
        "month": month.isoformat(),
        "tenant": body.tenant_id,
        "shard": shard_of(body.tenant_id),
        "epoch": body.epoch_id,
        "state": report.state,
        "flags": list(report.flags),
        "digest": digest,
        "older": older,
        "counters": [c.counter_id for c, _ in pairs],
        "incs": [inc for _, inc in pairs],
        "held": [c.amount for c, _ in pairs],
        "posted": _posted(hold, report, rate=False),
        "held_cost": body.cost_nano,
        "cost": report.cost_nano,
        "tokens": report.tokens,
        "requests": report.requests,
        "placed_at": hold.placed_ms,
        "key": ids.encode(ids.API_KEY, body.key_id),
        "project": body.project,
        "customer": body.customer,
        "end_user": body.user,
        "run": body.run,
        "plan": body.plan,
        "tags": body.tags,
        "provider": body.provider,
        "model": body.model,
        "reported_model": report.reported_model,
        "price_id": body.price_id,
        "origin": report.origin,
        "usage": report.usage,
        "outcome": report.outcome,
        "latency_ms": report.latency_ms,
        "note": report.note,
    }


class Resolutions:
    """Commits resolutions in groups and applies them to Redis afterwards."""

    def __init__(
        self,
        *,
        store: MoneyStore,
        redis: RedisClient,
        epochs: EpochDirectory,
        grants: Grants,
        on_apply: Callable[[Hold], None] = lambda _: None,
        on_cost: Callable[[Hold, int], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._redis, self._epochs, self._grants = store, redis, epochs, grants
        self._on_apply, self._on_cost = on_apply, on_cost
        self._queue: deque[_Waiting] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._applying: set[asyncio.Future[Any]] = set()

    async def resolve(self, hold: Hold, report: Report) -> Outcome:
        """Records what became of a hold; returns once PostgreSQL has it and Redis was told.

        Raises SettleConflict, StorageUnavailable (nothing recorded, or unknown: repeat it), Overloaded.
        """
        if len(self._queue) >= QUEUE_MAX:
            raise Overloaded(f"{QUEUE_MAX} resolutions are waiting already")
        waiting = _Waiting(hold, report, item_of(hold, report), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._work())
        return await asyncio.shield(waiting.answer)

    async def _work(self) -> None:
        while self._queue:
            batch: dict[UUID, _Waiting] = {}
            later: list[_Waiting] = []
            # One statement may touch a hold once; its duplicates wait for the next group, and nobody waits for them.
            while self._queue and len(batch) < BATCH_MAX and len(later) < BATCH_MAX:
                waiting = self._queue.popleft()
                if batch.setdefault(waiting.hold.body.hold_id, waiting) is not waiting:
                    later.append(waiting)
            self._queue.extendleft(reversed(later))
            try:
                await self._commit(list(batch.values()))
            except Exception as error:
                # A defect must not leave its callers waiting for ever, nor stop those behind them.
                log.exception("a group of %d resolutions failed", len(batch))
                for waiting in batch.values():
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)

    async def _commit(self, batch: list[_Waiting]) -> None:
        try:
            answer = await self._store.resolve([waiting.item for waiting in batch])
        except psycopg.Error as error:
            if len(batch) == 1:
                # A poison row: it fails alone, and loudly, since what it says is lost unless somebody looks.
                log.exception("resolution of hold %s was refused", batch[0].hold.body.hold_id)
                batch[0].answer.set_exception(Unrecordable(f"the ledger refused it: {type(error).__name__}"))
                return
            middle = len(batch) // 2
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])
            return
        except StorageUnavailable as error:
            for waiting in batch:
                waiting.answer.set_exception(StorageUnavailable(str(error)))
            return
        rows = {UUID(row["hold"]): row for row in answer["results"]}
        applies = [self._apply(w, rows[w.hold.body.hold_id]) for w in batch]
        task = asyncio.gather(*applies, self._grants.deliver(answer["messages"]))
        # The next group commits while these applies are on their way; callers are answered when they are done.
        self._applying.add(task)
        task.add_done_callback(self._applying.discard)
        task.add_done_callback(lambda done: _answer(batch, rows, done))

    async def _apply(self, waiting: _Waiting, row: Row) -> None:
        """Tells Redis the first posting, for the counters whose first resolution took the live branch.

        With none of those it only deletes the hold. What does not arrive is repeated by the sweeper.
        """
        hold = waiting.hold
        if row["outcome"] == "conflict":
            return
        first: list[int] = row["first"] if "first" in row else waiting.item["posted"]
        live: list[bool] = row["live"] if "live" in row else [True] * len(first)
        epoch = self._epochs.by_id(hold.body.epoch_id, hold.body.tenant_id)
        if epoch is None and (any(live) or not live):
            # Another gateway may have placed it in an epoch that this one has not read yet; without the apply its
            # amount would stay held until it expires.
            await self._epochs.reload()
            epoch = self._epochs.by_id(hold.body.epoch_id, hold.body.tenant_id)
        if epoch is None:
            return
        keys = [epoch.keys.hold(hold.body.hold_id), epoch.keys.expiries]
        args: list[Argument] = [str(hold.body.hold_id)]
        escrow, rates = (
            iter(zip(live, first, strict=True)),
            iter(_posted(hold, waiting.report, rate=True)),
        )
        for counter, incarnation in zip(hold.body.counters, hold.incarnations, strict=True):
            if counter.rate:
                keys.append(epoch.keys.rate(counter.counter_id))
                args += ["0", counter.amount, next(rates)]
                continue
            lives, kept = next(escrow)
            if lives:
                keys.append(epoch.keys.counter(counter.counter_id))
                args += [incarnation, counter.amount, kept]
        try:
            await self._redis.evalsha(epoch.scripts.resolve, keys, args)
        except (RedisUnavailable, NoScript) as error:
            log.info("an apply did not arrive: %s", error)
        except RedisError:
            log.exception("Redis refused an apply")
        self._on_apply(hold)
        if self._on_cost is not None and row["outcome"] == "first":
            await self._on_cost(hold, waiting.report.cost_nano)

    async def idle(self) -> None:
        """Waits until everything queued is committed and Redis was told (shutdown)."""
        if self._committing is not None:
            await self._committing
        if self._applying:
            await asyncio.wait(self._applying)


def _answer(batch: list[_Waiting], rows: dict[UUID, Row], done: asyncio.Future[Any]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("an apply failed after its commit; the sweeper repeats it", exc_info=error)
    for waiting in batch:
        if waiting.answer.done():
            continue
        row = rows[waiting.hold.body.hold_id]
        if row["outcome"] == "conflict":
            waiting.answer.set_exception(SettleConflict(row["state"]))
        else:
            waiting.answer.set_result(
                Outcome(
                    row["state"], row["cost"], row["held_cost"], row["outcome"] == "replayed", row["revision"]
                )
            )
