"""Runs and first-seen subjects in PostgreSQL, as gateways use them. Source: sql/runs.sql, sql/guards.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from budgets.stores.postgres.money import MoneyStore, Row, as_json


class RunStore(MoneyStore):
    """Starts, closes and reads runs."""

    async def start(self, tenant_id: UUID, run: Row, budgets: Sequence[UUID], *, open_max: int) -> Row:
        """Starts a run, or says what stands in the way; sql/runs.sql tells the shapes."""
        sql = "SELECT nb_run_start(%s, %s::jsonb, %s, %s)"
        return dict((await self._rows(sql, [tenant_id, as_json(run), list(budgets), open_max]))[0][0])

    async def seen(self, tenant_id: UUID, run: str) -> Row | None:
        """The record of a run that is being used; None: nobody started or stopped it."""
        (row,) = (await self._rows("SELECT nb_run_seen(%s, %s)", [tenant_id, run]))[0]
        return None if row is None else dict(row)

    async def close_run(
        self,
        tenant_id: UUID,
        run: str,
        *,
        state: str,
        reason: str,
        by: str,
        project: str,
        fresh_id: UUID,
        budgets: Sequence[UUID],
    ) -> Row | None:
        """Closes a run and all below it; None: there is no such run of the project."""
        sql = "SELECT nb_run_close(%s, %s, %s, %s, %s, %s, %s, %s)"
        params: list[Any] = [tenant_id, run, state, reason, by, project, fresh_id, list(budgets)]
        (row,) = (await self._rows(sql, params))[0]
        return None if row is None else dict(row)

    async def summary(self, tenant_id: UUID, run: str) -> Row:
        """What a run and all below it used."""
        return dict((await self._rows("SELECT nb_run_summary(%s, %s)", [tenant_id, run]))[0][0])

    async def due(self, limit: int) -> list[Row]:
        """Runs that are idle, or past their seconds."""
        return list((await self._rows("SELECT nb_run_due(%s)", [limit]))[0][0])

    async def first_seen(self, tenant_id: UUID, customer: str) -> int | None:
        """The millisecond at which a customer was registered; None: it is not yet."""
        (row,) = (await self._rows("SELECT nb_first_seen(%s, %s)", [tenant_id, customer]))[0]
        return None if row is None else int(row)
