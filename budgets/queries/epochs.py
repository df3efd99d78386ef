"""Epochs of the counters' Redis, and the authority that those of the past still lock."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from budgets.queries.bounded import Row, rows

STATES = ("opening", "open", "closing", "closed")


def epochs(*, state: str, shard: int | None, limit: int, offset: int = 0) -> list[Row]:
    """Epochs, those in use first by shard, then the closed ones from the newest."""
    return rows(
        """SELECT epoch_id, shard, state, valid_until, created_at, opened_at, closed_at, cleaned_at, reason FROM epochs
        WHERE (%s = '' OR state = %s) AND (%s::int IS NULL OR shard = %s)
        ORDER BY state = 'closed', CASE WHEN state = 'closed' THEN 0 ELSE shard END, created_at DESC, epoch_id
        LIMIT %s OFFSET %s""",
        [state, state, shard, shard, limit, offset],
    )


def epoch(*, epoch_id: UUID) -> Row | None:
    """One epoch, or None."""
    found = rows(
        """SELECT epoch_id, shard, state, valid_until, created_at, opened_at, closed_at, cleaned_at, reason FROM epochs
        WHERE epoch_id = %s""",
        [epoch_id],
    )
    return found[0] if found else None


_STRANDED = """FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
    JOIN counters c ON c.tenant_id = g.tenant_id AND c.counter_id = g.counter_id
    JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
    WHERE g.authority > 0 AND (e.state <> 'open' OR g.state <> 'live') AND (c.ends_at IS NULL OR c.ends_at > now())"""


def stranded_by_epoch(*, epoch_ids: Sequence[UUID]) -> list[Row]:
    """What some epochs have stranded: rows of (epoch_id, metric, counters, amount)."""
    return rows(
        f"""SELECT g.epoch_id, b.metric, count(*) AS counters, sum(g.authority)::bigint AS amount {_STRANDED}
            AND g.epoch_id = ANY (%s) GROUP BY 1, 2 ORDER BY 1, 2""",
        [list(epoch_ids)],
    )


def stranded_in(*, epoch_id: UUID, counter_id: UUID | None = None, limit: int) -> list[Row]:
    """What one epoch has stranded, largest first."""
    return rows(
        f"""SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation, g.state, g.authority, c.subject, c.ends_at,
            b.id AS budget_id, b.name AS budget, b.metric, t.slug AS tenant
        {_STRANDED.replace("WHERE", "JOIN tenants_tenant t ON t.id = g.tenant_id WHERE", 1)}
            AND g.epoch_id = %s AND (%s::uuid IS NULL OR g.counter_id = %s)
        ORDER BY g.authority DESC, g.counter_id, g.incarnation LIMIT %s""",
        [epoch_id, counter_id, counter_id, limit],
    )


def open_shards() -> int:
    """In how many shards an epoch is open and still valid."""
    (found,) = rows("SELECT count(*) AS open FROM epochs WHERE state = 'open' AND valid_until > now()")
    return int(found["open"])


def stranded_totals() -> list[Row]:
    """All stranded authority by metric: rows of (metric, counters, amount)."""
    return rows(
        f"SELECT b.metric, count(*) AS counters, sum(g.authority)::bigint AS amount {_STRANDED} GROUP BY 1 ORDER BY 1"
    )


def overrun_totals() -> list[Row]:
    """By how much counters of current windows are above their limits: rows of (metric, counters, amount)."""
    return rows(
        """SELECT b.metric, count(*) AS counters,
            sum(c.spent + coalesce(a.authority, 0) - c.limit_amount)::bigint AS amount
        FROM counters c JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id AND b.action <> 'warn'
        LEFT JOIN (SELECT tenant_id, counter_id, sum(authority) AS authority FROM grants WHERE authority > 0
            GROUP BY 1, 2) AS a ON a.tenant_id = c.tenant_id AND a.counter_id = c.counter_id
        WHERE (c.ends_at IS NULL OR c.ends_at > now()) AND c.spent + coalesce(a.authority, 0) > c.limit_amount
        GROUP BY 1 ORDER BY 1"""
    )
