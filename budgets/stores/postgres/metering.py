"""Metering's PostgreSQL: every statement that changes something is one of the functions in sql/metering*.sql.

The cursor is the caller's, inside the caller's transaction: what the roller tells others is told in the same one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol
from uuid import UUID


class Cursor(Protocol):
    """As much of a database cursor as is needed here."""

    def execute(self, sql: str, params: Any = ..., /) -> Any:
        """Runs one statement."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step rolled up.

    `counters` are (tenant, counter) whose spending its entries changed; `presumed` is what they newly presumed of each
    tenant, in nano-USD; everything committed before `through_at` is rolled up (None: not known yet).
    """

    entries: int
    more: bool
    counters: tuple[tuple[UUID, UUID], ...]
    presumed: dict[UUID, int]
    through_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """How far the rollups are. `waiting` counts at most WAITING_MAX entries; `at_home` is false after a restored dump."""

    at_home: bool
    through_at: datetime | None
    hours_from: datetime
    waiting: int
    rebuild_began_at: datetime | None
    rebuild_tenant: UUID | None
    rebuild_day: date | None


@dataclass(frozen=True, slots=True)
class Figure:
    """A rolled-up figure that is not what the ledger says."""

    tenant_id: UUID
    object: str
    figure: str
    stored: int
    derived: int


WAITING_MAX = 100_000


def roll_step(cursor: Cursor, limit: int) -> Step | None:
    """Rolls up about `limit` entries; None if another transaction is at it."""
    cursor.execute("SELECT nb_roll_usage(%s)::text", [limit])
    row = cursor.fetchone()
    assert row is not None
    told = json.loads(row[0])
    if told.get("busy"):
        return None
    through = told["through_ms"]
    return Step(
        entries=told["entries"],
        more=told["more"],
        counters=tuple((UUID(tenant), UUID(counter)) for tenant, counter in told["counters"]),
        presumed={UUID(tenant): int(nano) for tenant, nano in told["presumed"].items()},
        through_at=None if through is None else datetime.fromtimestamp(through / 1000, UTC),
    )


def status(cursor: Cursor) -> Status:
    """How far the rollups are."""
    cursor.execute(
        """SELECT nb_usage_at_home(c), through_at, hours_from,
            (SELECT count(*) FROM (SELECT FROM ledger_entries l WHERE l.position >= c.position LIMIT %s) AS w),
            rebuild_began_at, rebuild_tenant, rebuild_day
        FROM usage_cursor c""",
        [WAITING_MAX],
    )
    row = cursor.fetchone()
    assert row is not None
    return Status(*row)


def verify(
    cursor: Cursor, tenant_id: UUID | None, since: datetime | None, until: datetime | None
) -> list[Figure]:
    """Compares the rollups of days in [since, until) with the ledger, as of one moment."""
    cursor.execute(
        "SELECT tenant_id, object, figure, stored, derived FROM nb_verify_usage(%s, %s, %s)",
        [tenant_id, since, until],
    )
    return [Figure(*row) for row in cursor.fetchall()]


def next_day(cursor: Cursor, tenant_id: UUID, after: date | None) -> date | None:
    """The first day after `after` with entries or rollups of a tenant."""
    cursor.execute("SELECT nb_next_usage_day(%s, %s)", [tenant_id, after])
    row = cursor.fetchone()
    return row[0] if row else None


def recount(cursor: Cursor, tenant_id: UUID, day: date) -> int:
    """Counts one day of one tenant anew; returns the rows written."""
    cursor.execute("SELECT nb_recount_usage(%s, %s)", [tenant_id, day])
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def begin_rebuild(cursor: Cursor, lock_ms: int) -> bool:
    """Begins to count everything anew; true where the ledger was restored from a dump. Waits `lock_ms` for its lock."""
    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{lock_ms}ms"])
    cursor.execute("SELECT nb_rebuild_usage_begin()")
    row = cursor.fetchone()
    assert row is not None
    return bool(row[0])


def rebuild_step(cursor: Cursor) -> tuple[UUID, date, int] | None:
    """Counts the next tenant's next day anew: (tenant, day, rows); None when all is done."""
    cursor.execute("SELECT nb_rebuild_usage_step()::text")
    row = cursor.fetchone()
    if row is None or row[0] is None:
        return None
    told = json.loads(row[0])
    return UUID(told["tenant"]), date.fromisoformat(told["day"]), told["rows"]


def prune(cursor: Cursor, before: datetime, limit: int) -> int:
    """Forgets hours before `before`, at most `limit` of each kind; returns how many rows went."""
    cursor.execute("SELECT nb_prune_usage(%s, %s)", [before, limit])
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def tenants_with_usage(cursor: Cursor) -> Iterable[UUID]:
    """Every tenant, in the order of their ids."""
    cursor.execute("SELECT id FROM tenants_tenant ORDER BY id")
    return [row[0] for row in cursor.fetchall()]
