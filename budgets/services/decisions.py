"""The log of decisions, from a gateway's side: noted in memory, written in the background; docs/decisions.md.

Noting never waits and never fails. What finds no room is counted, by tenant, and the count is written as soon as the
database takes it: the log says where it has gaps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import psycopg

from budgets.domain.decisions import Decision, encode, whose
from budgets.services.polling import Poller
from budgets.stores.postgres.decisions import DecisionStore, RefusedRecords
from budgets.stores.postgres.money import Row, StorageUnavailable

log = logging.getLogger(__name__)

QUEUE_MAX: Final = 100_000
QUEUE_BYTES_MAX: Final = 64_000_000
BATCH_MAX: Final = 1_000
LOST_MAX: Final = 10_000
FLUSH_SECONDS: Final = 0.25
AGE_US_MAX: Final = 3_600_000_000
"""A record that waited longer for the database is given up: a reader may rely on ids being at most an hour late."""


def now_us() -> int:
    """This process's monotonic time in microseconds."""
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class _Gap:
    dropped: int
    from_us: int
    to_us: int


@dataclass(slots=True)
class _Batch:
    """What was sent under one number, and will be sent again under it until the database answered."""

    number: int
    records: list[bytes]
    from_us: int
    gaps: dict[tuple[UUID, str], _Gap]


class DecisionLog:
    """Keeps a gateway's decisions until they are written."""

    def __init__(self, store: DecisionStore, *, queue_max: int = QUEUE_MAX) -> None:
        self._store, self._queue_max = store, queue_max
        self._writer = uuid4()
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._gaps: dict[tuple[UUID, str], _Gap] = {}
        self._sent: _Batch | None = None
        self._number, self._size = 0, BATCH_MAX
        self._uncounted = 0
        self._away = False
        self._writing = asyncio.Lock()
        self._poller = Poller(self.flush, seconds=FLUSH_SECONDS, what="the log of decisions")

    async def start(self) -> None:
        """Starts writing in the background."""
        await self._store.open()
        self._poller.start()

    async def stop(self) -> None:
        """Writes what is noted, if the database takes it, and ends."""
        await self._poller.stop()
        await self.flush()
        if self._queue or self._sent:
            log.warning(
                "%d decisions were not written",
                len(self._queue) + len(self._sent.records if self._sent else ()),
            )
        await self._store.close()

    def note(self, decision: Decision) -> None:
        """Notes a decision. Where there is no room the newest is dropped: a gap is then one stretch of time."""
        if len(self._queue) < self._queue_max and self._bytes < QUEUE_BYTES_MAX:
            record = encode(decision)
            self._queue.append(record)
            self._bytes += len(record)
        else:
            self._lose(decision.tenant_id, decision.at_us, "full")

    @contextmanager
    def missing(self, tenant_id: UUID) -> Iterator[None]:
        """Counts a decision whose noting fails within: its money is taken, and the answer is not kept back by the log."""
        try:
            yield
        except Exception:
            log.exception("a decision was not noted")
            self.missed(tenant_id)

    def missed(self, tenant_id: UUID) -> None:
        """Counts a decision that could not be noted."""
        self._lose(tenant_id, now_us(), "refused")

    def _lose(self, tenant_id: UUID, at_us: int, why: str) -> None:
        gap = self._gaps.get((tenant_id, why))
        if gap is not None:
            gap.dropped += 1
            gap.from_us, gap.to_us = min(gap.from_us, at_us), max(gap.to_us, at_us)
        elif len(self._gaps) < LOST_MAX:
            self._gaps[tenant_id, why] = _Gap(1, at_us, at_us)
        else:
            self._uncounted += 1

    async def flush(self) -> None:
        """Writes what is noted, batch by batch, until nothing is left or the database is away."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        while self._sent or self._queue or self._gaps:
            batch = self._sent = self._sent or self._take()
            # One that was sent an hour ago is asked after, and no more: it is there, or it is lost.
            young = batch.from_us > now_us() - AGE_US_MAX
            try:
                written = await self._store.log(
                    writer=self._writer,
                    batch=batch.number,
                    records=batch.records if young else (),
                    lost=_lost(batch.gaps),
                    from_us=batch.from_us,
                    now_us=now_us(),
                )
            except RefusedRecords as error:
                self._refused(batch, error)
                continue
            except (StorageUnavailable, psycopg.Error) as error:
                if not self._away:
                    log.warning("decisions are kept in memory until they can be written: %s", error)
                self._away = True
                return
            self._sent, self._away = None, False
            self._size = min(BATCH_MAX, self._size * 2)
            if written and not young:
                self._lose_all(batch.records, "late")
            if self._uncounted:
                log.error(
                    "%d decisions of many tenants are missing in the log, and its gaps", self._uncounted
                )
                self._uncounted = 0

    def _lose_all(self, records: list[bytes], why: str) -> None:
        for of in map(whose, records):
            self._lose(of.tenant_id, of.at_us, why)

    def _take(self) -> _Batch:
        """The next batch, without what waited too long."""
        now = from_us = now_us()
        records: list[bytes] = []
        while self._queue and len(records) < self._size:
            record = self._queue.popleft()
            self._bytes -= len(record)
            if not records:
                # They stand in the order of time: the first one's age is the batch's.
                from_us = whose(record).at_us
                if from_us <= now - AGE_US_MAX:
                    self._lose_all([record], "late")
                    continue
            records.append(record)
        gaps, self._gaps = self._gaps, {}
        self._number += 1
        return _Batch(self._number, records, from_us, gaps)

    def _refused(self, batch: _Batch, error: RefusedRecords) -> None:
        """Finds the record that spoils a batch by halving; alone, it is given up."""
        self._sent = None
        if not batch.records:
            log.error("the database refuses the gaps of the log: %s", error)
            return
        self._gaps = _merged(batch.gaps, self._gaps)
        if len(batch.records) == 1:
            log.error(
                "the database refuses a decision of tenant %s: %s", whose(batch.records[0]).tenant_id, error
            )
            self._lose_all(batch.records, "refused")
            return
        self._size = len(batch.records) // 2
        self._queue.extendleft(reversed(batch.records))
        self._bytes += sum(map(len, batch.records))


def _merged(
    older: dict[tuple[UUID, str], _Gap], newer: dict[tuple[UUID, str], _Gap]
) -> dict[tuple[UUID, str], _Gap]:
    merged = dict(older)
    for key, gap in newer.items():
        if (held := merged.get(key)) is not None:
            gap = _Gap(held.dropped + gap.dropped, min(held.from_us, gap.from_us), max(held.to_us, gap.to_us))
        merged[key] = gap
    return merged


def _lost(gaps: dict[tuple[UUID, str], _Gap]) -> list[Row]:
    return [
        {"tenant": tenant, "dropped": gap.dropped, "from_us": gap.from_us, "to_us": gap.to_us, "why": why}
        for (tenant, why), gap in gaps.items()
    ]
