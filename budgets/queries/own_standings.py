"""How a customer's own budgets stand now: those of its scope, whether it was called for in their windows or not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from budgets.domain.policy import Metric, WindowKind
from budgets.domain.windows import window_at
from budgets.queries.bounded import rows

BUDGETS_MAX = 16
"""As many as a call may fall under."""

_SQL = """
SELECT b.id, b.metric, b.window_kind, b.anchor_day, coalesce(b.time_zone, t.time_zone) AS zone, b.effective_at,
    l.amount AS "limit", c.ends_at, s.spent, coalesce(g.stranded, 0)::bigint AS stranded
FROM budgets_budget b
JOIN tenants_tenant t ON t.id = b.tenant_id
CROSS JOIN LATERAL (SELECT nb_limit(b, %(customer)s, clock_timestamp()) AS amount) AS l
LEFT JOIN counters c ON c.tenant_id = b.tenant_id AND c.budget_id = b.id AND c.subject = %(customer)s
    AND c.starts_at <= %(now)s AND (c.ends_at IS NULL OR c.ends_at > %(now)s)
LEFT JOIN LATERAL (SELECT nb_spent(c, b) AS spent WHERE c.counter_id IS NOT NULL) AS s ON true
LEFT JOIN LATERAL (
    SELECT sum(g.authority) FILTER (WHERE NOT (g.state = 'live' AND e.state = 'open')) AS stranded
    FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
    WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id) AS g ON true
WHERE b.tenant_id = %(tenant)s AND b.scope = 'customer' AND b.subject IN ('*', %(customer)s)
    AND b.archived_at IS NULL AND b.action <> 'warn' AND b.window_kind NOT IN ('minute', 'run')
    AND b.effective_at <= %(now)s
ORDER BY b.created_at, b.id LIMIT %(most)s
"""

_OPENING = (
    "SELECT nb_opening(b, %s, %s, %s) AS spent FROM budgets_budget b WHERE b.tenant_id = %s AND b.id = %s"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnStanding:
    """One budget of a customer's in the present window, in the metric's unit. `remaining` is not below 0."""

    metric: Metric
    window: WindowKind
    limit: int
    spent: int
    remaining: int
    resets_at: datetime | None


def own_standings(*, tenant_id: UUID, customer: str, now: datetime) -> list[OwnStanding]:
    """Returns the budgets that refuse a customer's calls, oldest first: those of its scope, warnings and rates left out.

    A customer that was not called for in a window has no counter there yet, and stands as its first call will find it.
    """
    found = []
    for row in rows(_SQL, {"tenant": tenant_id, "customer": customer, "now": now, "most": BUDGETS_MAX}):
        kind, spent, resets_at = WindowKind(row["window_kind"]), row["spent"], row["ends_at"]
        if spent is None:
            window = window_at(kind, now=now, zone=row["zone"], anchor_day=row["anchor_day"])
            spent, resets_at = 0, window.ends_at
            if row["effective_at"] > window.starts_at:
                opening = [customer, window.starts_at, window.ends_at, tenant_id, row["id"]]
                spent = rows(_OPENING, opening)[0]["spent"]
        found.append(
            OwnStanding(
                metric=Metric(row["metric"]),
                window=kind,
                limit=row["limit"],
                spent=spent,
                remaining=max(0, row["limit"] - spent - row["stranded"]),
                resets_at=resets_at,
            )
        )
    return found
