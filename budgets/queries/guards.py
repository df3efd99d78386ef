"""What guards stopped lately, or would have, as the log of decisions has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from budgets.queries.bounded import rows

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
