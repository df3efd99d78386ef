"""How a budget stands now: its counters of the windows that hold this moment, by subject."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from budgets.queries.bounded import Row, rows

Key = tuple[str, UUID]
"""The subject and the id of a counter: in this order they are listed."""

_SQL = """
SELECT c.counter_id, c.subject, c.starts_at, c.ends_at, b.metric, l.amount AS "limit", s.spent,
    coalesce(g.authority, 0)::bigint AS authority, coalesce(g.stranded, 0)::bigint AS stranded,
    greatest(0, l.amount - s.spent - coalesce(g.stranded, 0))::bigint AS remaining
FROM counters c
JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
CROSS JOIN LATERAL (SELECT nb_limit(b, c.subject, greatest(clock_timestamp(), c.starts_at)) AS amount) AS l
CROSS JOIN LATERAL (SELECT nb_spent(c, b) AS spent) AS s
LEFT JOIN LATERAL (
    SELECT sum(g.authority) AS authority,
        sum(g.authority) FILTER (WHERE NOT (g.state = 'live' AND e.state = 'open')) AS stranded
    FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
    WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id) AS g ON true
WHERE c.tenant_id = %s AND c.budget_id = %s AND c.starts_at <= %s AND (c.ends_at IS NULL OR c.ends_at > %s)
    AND (%s::text IS NULL OR c.subject = %s) AND (%s::text IS NULL OR (c.subject, c.counter_id) > (%s, %s))
ORDER BY c.subject, c.counter_id LIMIT %s
"""


def standings(
    *, tenant_id: UUID, budget_id: UUID, subject: str | None, after: Key | None, limit: int, now: datetime
) -> list[Row]:
    """Returns up to `limit` counters of current windows, amounts in the budget's own unit.

    `limit` is the one in force, increases counted in; `authority` what gateways may still turn into spending, their
    open holds among it; `stranded` the part of it that a lost Redis keeps locked; `remaining` what is neither spent
    nor stranded, and not below 0.
    """
    name, counter = after or (None, None)
    return rows(
        _SQL,
        [tenant_id, budget_id, now, now, subject, subject, name, name, counter, limit],
    )
