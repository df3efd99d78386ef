"""Counters as PostgreSQL has them, each with what ledger and resolutions say it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from budgets.queries.bounded import Row, rows

Key = tuple[UUID, UUID]
"""A counter: its tenant, and its id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CounterFilter:
    """Which counters: of a tenant, budget or subject; only those whose window has not ended."""

    tenant_id: UUID | None = None
    budget_id: UUID | None = None
    subject: str = ""
    current: bool = True


def counters(*, wanted: CounterFilter, after: Key | None, limit: int, now: datetime) -> list[Row]:
    """Counters in the order of their keys, from the one after `after` on."""
    conditions, parameters = ["true"], []
    for condition, value in (
        ("c.tenant_id = %s", wanted.tenant_id),
        ("c.budget_id = %s", wanted.budget_id),
        ("c.subject = %s", wanted.subject or None),
        ("(c.ends_at IS NULL OR c.ends_at > %s)", now if wanted.current else None),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if after is not None:
        conditions.append("(c.tenant_id, c.counter_id) > (%s, %s)")
        parameters += after
    return _described(" AND ".join(conditions), [*parameters, limit], tail="LIMIT %s")


def counter(*, tenant_id: UUID, counter_id: UUID) -> Row | None:
    """One counter, or None."""
    found = _described("c.tenant_id = %s AND c.counter_id = %s", [tenant_id, counter_id])
    return found[0] if found else None


def _described(condition: str, parameters: Sequence[Any], *, tail: str = "") -> list[Row]:
    # Every value is a parameter; `condition` and `tail` are texts of this module.
    return rows(
        f"""SELECT c.tenant_id, c.counter_id, c.budget_id, c.subject, c.starts_at, c.ends_at, c.limit_amount, c.spent,
            c.opening, c.budget_version, c.created_at, t.slug AS tenant, b.name AS budget, b.metric, b.action
        FROM counters c JOIN tenants_tenant t ON t.id = c.tenant_id
        JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
        WHERE {condition} ORDER BY c.tenant_id, c.counter_id {tail}""",  # noqa: S608
        parameters,
    )


def spent(*, keys: Sequence[Key]) -> list[Row]:
    """What some counters have spent now: rows of (tenant_id, counter_id, spent, opening, limit_amount)."""
    return rows(
        """SELECT c.tenant_id, c.counter_id, c.spent, c.opening, c.limit_amount
        FROM unnest(%s::uuid[], %s::uuid[]) AS x (tenant_id, counter_id)
        JOIN counters c ON c.tenant_id = x.tenant_id AND c.counter_id = x.counter_id""",
        _columns(keys),
    )


def grants(*, keys: Sequence[Key]) -> list[Row]:
    """The incarnations of some counters, the newest epoch first; `stranded` is what nobody can place any more."""
    return rows(
        """SELECT g.tenant_id, g.counter_id, g.epoch_id, g.incarnation, g.state, g.authority, g.granted, g.clamped,
            g.seq, g.acked_seq, e.shard, e.state AS epoch_state, e.valid_until,
            (e.state <> 'open' OR g.state <> 'live') AS stranded
        FROM unnest(%s::uuid[], %s::uuid[]) AS x (tenant_id, counter_id)
        JOIN grants g ON g.tenant_id = x.tenant_id AND g.counter_id = x.counter_id
        JOIN epochs e ON e.epoch_id = g.epoch_id
        ORDER BY g.tenant_id, g.counter_id, e.created_at DESC, g.incarnation DESC""",
        _columns(keys),
    )


def posted(*, keys: Sequence[Key]) -> dict[Key, int]:
    """What the ledger posted to each counter since its window began; nothing for a counter that it never names.

    A hold belongs to the window in which it was placed, so older entries cannot name the counter.
    """
    found = rows(
        f"""{_WITHIN}
        SELECT l.tenant_id, p.counter, sum(p.delta)::bigint AS delta
        FROM tenant_pages w JOIN ledger_entries l ON l.tenant_id = w.tenant_id AND l.placed_at >= w.since
            AND l.counters && w.ids,
        unnest(l.counters, l.deltas) AS p (counter, delta)
        WHERE p.counter = ANY (w.ids) GROUP BY 1, 2""",  # noqa: S608
        _columns(keys),
    )
    return {(row["tenant_id"], row["counter"]): row["delta"] for row in found}


def consumed(*, keys: Sequence[Key]) -> dict[tuple[UUID, UUID, int], int]:
    """What resolutions took from each incarnation: by counter, epoch and incarnation."""
    found = rows(
        f"""{_WITHIN}
        SELECT p.counter, r.epoch_id, p.inc,
            sum(CASE WHEN p.live THEN least(p.first, p.held) ELSE p.held END)::bigint AS amount
        FROM tenant_pages w JOIN hold_resolutions r ON r.tenant_id = w.tenant_id
            AND r.placed_month >= date_trunc('month', w.since AT TIME ZONE 'UTC')::date AND r.counters && w.ids,
        unnest(r.counters, r.incarnations, r.live, r.first, r.held) AS p (counter, inc, live, first, held)
        WHERE p.counter = ANY (w.ids) GROUP BY 1, 2, 3""",  # noqa: S608
        _columns(keys),
    )
    return {(row["counter"], row["epoch_id"], row["inc"]): row["amount"] for row in found}


# An hour before the window's begin costs little, and no clock is as wrong as that.
_WITHIN = """WITH tenant_pages AS (
    SELECT c.tenant_id, min(c.starts_at) - interval '1 hour' AS since, array_agg(c.counter_id) AS ids
    FROM unnest(%s::uuid[], %s::uuid[]) AS x (tenant_id, counter_id)
    JOIN counters c ON c.tenant_id = x.tenant_id AND c.counter_id = x.counter_id GROUP BY 1)"""


def _columns(keys: Sequence[Key]) -> list[list[UUID]]:
    return [[key[0] for key in keys], [key[1] for key in keys]]
