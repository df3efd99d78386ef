"""Asks PostgreSQL for authority and brings it to Redis. One ask is under way at a time; calls that come meanwhile
join the next, so a counter is never asked for twice at once and a burst costs a few transactions, not thousands."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg

from budgets.domain.demands import Place
from budgets.domain.escrow import AMOUNT_MAX
from budgets.services.epochs import Epoch, EpochDirectory
from budgets.stores.postgres.money import MoneyStore, Row, StorageUnavailable
from budgets.stores.redis.connection import NoScript, RedisClient, RedisError, RedisUnavailable

log = logging.getLogger(__name__)

ASKS_PER_BATCH = 200
ACK_SECONDS = 0.05
ACKS_PENDING_MAX = 10_000
LOST_MAX = 10_000


@dataclass(slots=True)
class Lack:
    """One counter that cannot cover a call: what the call needs, and the chunk and use that Redis showed."""

    epoch: Epoch
    tenant_id: UUID
    place: Place
    need: int
    chunk: int
    used: int


@dataclass(slots=True)
class _Batch:
    asks: dict[UUID, Row] = field(default_factory=dict)
    answer: asyncio.Future[dict[UUID, str]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Grants:
    """Single-flight, batched asks; delivery of load messages; acknowledgements."""

    def __init__(self, *, store: MoneyStore, redis: RedisClient, epochs: EpochDirectory) -> None:
        self._store, self._redis, self._epochs = store, redis, epochs
        self._waiting: deque[_Batch] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._acks: dict[tuple[str, str, int], Row] = {}
        self._acking: asyncio.Task[None] | None = None
        self._lost: OrderedDict[tuple[UUID, UUID], int] = OrderedDict()

    async def ask(self, lacks: Iterable[Lack]) -> dict[UUID, str]:
        """Asks for all counters of a call and delivers what is granted; returns a status by counter (sql/grant.sql,
        and "refused" where PostgreSQL does so whatever it is asked with).

        Raises StorageUnavailable if PostgreSQL cannot say.
        """
        # The newest batch takes more until it is full; the full ones before it wait for their turn.
        if not self._waiting or len(self._waiting[-1].asks) >= ASKS_PER_BATCH:
            self._waiting.append(_Batch())
        batch = self._waiting[-1]
        for lack in lacks:
            counter = lack.place.counter_id
            known = batch.asks.get(counter)
            if known is not None:
                # No counter holds more than that; a sum beyond what PostgreSQL can read would fail the whole batch.
                known["need"] = min(AMOUNT_MAX, known["need"] + lack.need)
                if lack.chunk >= known["chunk"]:
                    known["chunk"], known["used"] = lack.chunk, lack.used
                continue
            batch.asks[counter] = {**_row(lack), "lost": self._lost.pop((lack.epoch.epoch_id, counter), 0)}
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._work())
        return await asyncio.shield(batch.answer)

    async def peek(self, lacks: Iterable[Lack]) -> dict[UUID, tuple[int, int]]:
        """Limit and remaining amount, by counter, of counters that Redis does not hold. Raises StorageUnavailable."""
        rows = await self._store.peek([_row(lack) for lack in lacks])
        return {UUID(row["counter"]): (row["limit"], row["remaining"]) for row in rows}

    async def _work(self) -> None:
        while self._waiting:
            batch = self._waiting.popleft()
            try:
                rows = await self._granted(list(batch.asks.values()))
                await self.deliver([row for row in rows if row["status"] == "ok"])
                batch.answer.set_result({UUID(row["counter"]): row["status"] for row in rows})
            except Exception as error:
                batch.answer.set_exception(error)
                batch.answer.exception()  # Marked as seen: a caller that gave up must not leave a warning.

    async def _granted(self, asks: list[Row]) -> list[Row]:
        """What PostgreSQL grants; an ask that it refuses fails alone, with the status "refused"."""
        try:
            return await self._store.grant(asks)
        except psycopg.Error:
            if len(asks) == 1:
                log.exception("PostgreSQL refused to grant for counter %s", asks[0]["counter"])
                return [{"counter": str(asks[0]["counter"]), "status": "refused"}]
            middle = len(asks) // 2
            return await self._granted(asks[:middle]) + await self._granted(asks[middle:])

    async def deliver(self, messages: list[Row]) -> None:
        """Sends load messages and books what Redis answers. What does not arrive is sent again by the sweeper."""
        await asyncio.gather(*(self._send(message) for message in messages))

    async def _send(self, message: Row) -> None:
        tenant, counter = UUID(message["tenant"]), UUID(message["counter"])
        epoch = self._epochs.by_id(UUID(message["epoch"]), tenant)
        if epoch is None:
            return
        args = [
            message["inc"],
            message["seq"],
            message["total"],
            message["pf"],
            message["bv"],
            message["lim"],
        ]
        keys = [epoch.keys.epoch, epoch.keys.counter(counter)]
        try:
            reply = await self._redis.evalsha(
                epoch.scripts.load,
                keys,
                [*args, "1" if message["create"] else "0", message.get("until") or ""],
            )
        except (RedisUnavailable, NoScript) as error:
            log.info("a load message did not arrive: %s", error)
            return
        except RedisError:
            log.exception("Redis refused a load message")
            return
        word = reply[0]
        if word in (b"APPLIED", b"KEPT"):
            self._acknowledge(message, seq=reply[1], chunk=reply[2])
        elif word == b"MISSING" and not message["create"]:
            # Proof that an acknowledged key vanished; the next ask for this counter carries it.
            # It proves nothing about another epoch, whose incarnations are numbered anew.
            self._lost[epoch.epoch_id, counter] = message["inc"]
            if len(self._lost) > LOST_MAX:
                self._lost.popitem(last=False)

    def _acknowledge(self, message: Row, *, seq: int, chunk: int) -> None:
        key = (message["counter"], message["epoch"], message["inc"])
        known = self._acks.get(key)
        if (known is None and len(self._acks) >= ACKS_PENDING_MAX) or (
            known is not None and known["seq"] >= seq
        ):
            return
        self._acks[key] = {
            "tenant": message["tenant"],
            "counter": message["counter"],
            "epoch": message["epoch"],
            "inc": message["inc"],
            "seq": seq,
            "chunk": chunk,
        }
        if self._acking is None or self._acking.done():
            self._acking = asyncio.create_task(self._flush_acks())

    async def _flush_acks(self) -> None:
        await asyncio.sleep(ACK_SECONDS)
        while self._acks:
            acks = [self._acks.pop(key) for key in list(self._acks)[:ASKS_PER_BATCH]]
            try:
                await self._store.ack(acks)
            except StorageUnavailable as error:
                # Not booked means sent again later and acknowledged then.
                log.info("acknowledgements were not booked: %s", error)
                return

    async def settle_down(self) -> None:
        """Waits until asks and acknowledgements under way are done (shutdown, tests)."""
        for task in (self._asking, self._acking):
            if task is not None:
                await task


def _row(lack: Lack) -> Row:
    """One ask as sql/grant.sql takes it."""
    return {
        "tenant": lack.tenant_id,
        "shard": lack.epoch.shard,
        "epoch": lack.epoch.epoch_id,
        "budget": lack.place.rule.budget_id,
        "counter": lack.place.counter_id,
        "subject": lack.place.subject,
        "starts": lack.place.starts_ms,
        "ends": lack.place.ends_ms or None,
        "need": lack.need,
        "lost": 0,
        "chunk": lack.chunk,
        "used": lack.used,
    }
