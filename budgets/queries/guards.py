"""What guards stopped lately, or would have, as the log of decisions has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from budgets.queries.bounded import Row, rows

# In the words of the index decisions_guarded.
_TRIPPED = """
SELECT d.tenant_id, g.guard_id, d.reason, count(*) AS calls, CASE r.scope WHEN 'project' THEN d.project
    WHEN 'customer' THEN d.customer WHEN 'user' THEN d.end_user WHEN 'api_key' THEN d.api_key::text ELSE '' END AS whose
FROM decisions d
CROSS JOIN LATERAL unnest(d.guard_id || coalesce(d.guards_observed, '{}')) AS g (guard_id)
JOIN budgets_guard r ON r.tenant_id = d.tenant_id AND r.id = g.guard_id
WHERE d.id >= nb_decision_floor(%(since)s) AND (d.guard_id IS NOT NULL OR d.guards_observed IS NOT NULL)
GROUP BY 1, 2, 3, 5 ORDER BY 1, 2, 3, 5 LIMIT %(limit)s
"""


def guards_tripped(*, since: datetime, limit: int) -> list[dict[str, Any]]:
    """By tenant, guard and whose calls: the reason (None: the guard observes), and how many calls since then."""
    return rows(_TRIPPED, {"since": since, "limit": limit})


# The same index, of one tenant, by the guard alone.
_LATELY = """
SELECT g.guard_id, count(*) FILTER (WHERE d.guard_id = g.guard_id) AS stopped, count(*) AS calls,
    max(d.decided_at) AS last_at
FROM decisions d
CROSS JOIN LATERAL unnest(d.guard_id || coalesce(d.guards_observed, '{}')) AS g (guard_id)
WHERE d.tenant_id = %(tenant)s AND d.id >= nb_decision_floor(%(since)s)
    AND (d.guard_id IS NOT NULL OR d.guards_observed IS NOT NULL) AND g.guard_id = ANY (%(guards)s)
GROUP BY 1
"""


def tripped_lately(*, tenant_id: UUID, guard_ids: Sequence[UUID], since: datetime) -> dict[UUID, Row]:
    """Of some guards of a tenant: calls that each stopped, or would have, and when last; none for those that did not."""
    wanted = {"tenant": tenant_id, "guards": list(guard_ids), "since": since}
    return {row["guard_id"]: row for row in rows(_LATELY, wanted)} if guard_ids else {}
