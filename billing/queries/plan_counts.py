"""How many requests tenants made, from the sums of usage: each entry of the ledger is in them once."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import connection

from budgets.queries.billable import pieces

TOUCHED_MAX = 10_000


def requests_in(*, tenant_id: UUID, starts_at: datetime, ends_at: datetime) -> int:
    """The requests of whole hours [starts_at, ends_at): whole days from the sums of days, the rest by the hour."""
    found, total = pieces([(starts_at, ends_at)]), 0
    with connection.cursor() as cursor:
        for grain, parts in (("total_hours", found.hours), ("total_days", found.days)):
            for _, since, until in parts:
                cursor.execute(
                    "SELECT coalesce(sum(requests), 0)::bigint FROM usage_rollups"
                    " WHERE grain = %s AND tenant_id = %s AND bucket >= %s AND bucket < %s",
                    [grain, tenant_id, since, until],
                )
                row = cursor.fetchone()
                total += int(row[0]) if row else 0
    return total


def requests_by_hour(*, tenant_id: UUID, starts_at: datetime, ends_at: datetime) -> dict[datetime, int]:
    """The requests of each hour in [starts_at, ends_at) that has any."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT bucket, sum(requests)::bigint FROM usage_rollups WHERE grain = 'total_hours' AND tenant_id = %s"
            " AND bucket >= %s AND bucket < %s GROUP BY bucket ORDER BY bucket",
            [tenant_id, starts_at, ends_at],
        )
        return {row[0]: int(row[1]) for row in cursor.fetchall() if row[1]}


def rolled_to() -> int:
    """The position below which every entry is in the sums."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT position FROM usage_cursor")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def tenants_between(*, since: int, until: int) -> list[UUID]:
    """Tenants with entries at positions in [since, until), up to TOUCHED_MAX."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tenant_id FROM ledger_entries WHERE position >= %s AND position < %s"
            " ORDER BY tenant_id LIMIT %s",
            [since, until, TOUCHED_MAX],
        )
        return [row[0] for row in cursor.fetchall()]
