"""The log of decisions in PostgreSQL: gateways add to it, tasks prune it. Source: sql/decisions.sql, retention.sql."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

import psycopg

from budgets.stores.postgres.money import MoneyStore, Row, as_json

# Of these classes an error is the data's own fault: invalid text, a breach of a constraint, a value that is too long.
DATA_ERRORS = ("22", "23", "54")


class RefusedRecords(Exception):
    """PostgreSQL will never take this batch: at least one of its records is not valid. The text says why."""


class DecisionStore(MoneyStore):
    """Adds to the log as a gateway."""

    async def log(
        self,
        *,
        writer: UUID,
        batch: int,
        records: Sequence[bytes],
        lost: Sequence[Row],
        from_us: int,
        now_us: int,
    ) -> bool:
        """Writes a batch of encoded records and of gaps, once: False if this batch is there already.

        Raises StorageUnavailable if that is not known, RefusedRecords if it never will be.
        """
        rows = (b"[" + b",".join(records) + b"]").decode()
        sql = "SELECT nb_log_decisions(%s, %s, %s::json, %s::json, %s, %s)"
        try:
            written = await self._rows(sql, [writer, batch, rows, as_json(lost), from_us, now_us])
        except psycopg.DatabaseError as error:
            if (error.sqlstate or "")[:2] in DATA_ERRORS:
                raise RefusedRecords(error.diag.message_primary or str(error)) from error
            raise
        return bool(written[0][0])


class RetentionStore(MoneyStore):
    """Makes room and makes it free again, as the application. Each call is bounded, and safe to repeat."""

    async def make_days(self, first: date, days: int) -> int:
        """Makes the partitions of decisions for `days` days from `first`; returns how many were new."""
        return int((await self._rows("SELECT nb_make_decision_partitions(%s, %s)", [first, days]))[0][0])

    async def drop_days(self, now: datetime) -> int:
        """Drops whole days of decisions that no tenant keeps any more; returns how many."""
        return int((await self._rows("SELECT nb_drop_decision_days(%s)", [now]))[0][0])

    async def days(self, now: datetime) -> list[date | None]:
        """The days that may hold what somebody keeps no longer; None stands for the default partition."""
        return [row[0] for row in await self._rows("SELECT nb_decision_days(%s)", [now])]

    async def prune_decisions(self, now: datetime, day: date | None, limit: int) -> int:
        """Deletes up to `limit` decisions of a day that are older than their tenant keeps them; returns how many."""
        return int((await self._rows("SELECT nb_prune_decisions(%s, %s::date, %s)", [now, day, limit]))[0][0])

    async def prune_counters(self, before: datetime, limit: int) -> int:
        """Deletes up to `limit` settled counters of hours that ended before `before`; returns how many."""
        return int((await self._rows("SELECT nb_prune_counters(%s, %s)", [before, limit]))[0][0])
