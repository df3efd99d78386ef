"""How full budgets are now: counters found by budget, subject and window, so that it costs what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from budgets.queries.bounded import Row, rows


class Place(NamedTuple):
    """One subject of one budget in the window that begins then; the subject as counters spell it."""

    budget_id: UUID
    subject: str
    starts_at: datetime


def places(*, tenant_id: UUID, wanted: Sequence[Place], now: datetime) -> dict[tuple[UUID, str], Row]:
    """Returns how some subjects stand, by budget and subject: `limit`, `spent`, `authority`, `stranded`, `remaining`.

    As in `standings`, exactly; also where nobody has called yet, with nothing spent and `counter_id` None. `own_limit` is
    the subject's override, or None; `increased` is what increases add now.
    """
    found = rows(
        """SELECT w.budget_id, w.subject, c.counter_id, o.limit_amount AS own_limit, l.amount AS "limit",
            (l.amount - coalesce(o.limit_amount, b.limit_amount))::bigint AS increased,
            coalesce(s.spent, 0)::bigint AS spent, coalesce(g.authority, 0)::bigint AS authority,
            coalesce(g.stranded, 0)::bigint AS stranded,
            greatest(0, l.amount - coalesce(s.spent, 0) - coalesce(g.stranded, 0))::bigint AS remaining
        FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[]) AS w (budget_id, subject, starts_at)
        JOIN budgets_budget b ON b.tenant_id = %s AND b.id = w.budget_id
        LEFT JOIN budgets_budgetoverride o ON o.tenant_id = b.tenant_id AND o.budget_id = b.id AND o.subject = w.subject
        LEFT JOIN counters c ON c.tenant_id = b.tenant_id AND c.budget_id = b.id AND c.subject = w.subject
            AND c.starts_at = w.starts_at
        CROSS JOIN LATERAL (SELECT nb_limit(b, w.subject, greatest(%s, w.starts_at)) AS amount) AS l
        LEFT JOIN LATERAL (SELECT nb_spent(c, b) AS spent WHERE c.counter_id IS NOT NULL) AS s ON true
        LEFT JOIN LATERAL (
            SELECT sum(g.authority) AS authority,
                sum(g.authority) FILTER (WHERE NOT (g.state = 'live' AND e.state = 'open')) AS stranded
            FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
            WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id) AS g ON true""",
        [
            [place.budget_id for place in wanted],
            [place.subject for place in wanted],
            [place.starts_at for place in wanted],
            tenant_id,
            now,
        ],
    )
    return {(row["budget_id"], row["subject"]): row for row in found}


def fullest(*, tenant_id: UUID, windows: Sequence[tuple[UUID, datetime]], limit: int) -> list[Row]:
    """Returns the subjects with the largest share of their limit spent, in one window of each of some budgets.

    Looks at every subject of these windows, which takes a while for a hundred thousand: no page waits for it. By the
    limits with which counters were last loaded, which an edit changes within seconds of the subject's next call.
    """
    return rows(
        """SELECT c.budget_id, c.subject, c.spent, c.limit_amount AS "limit"
        FROM unnest(%s::uuid[], %s::timestamptz[]) AS w (budget_id, starts_at)
        JOIN counters c ON c.tenant_id = %s AND c.budget_id = w.budget_id AND c.starts_at = w.starts_at
        WHERE c.spent > 0
        ORDER BY c.spent::numeric / greatest(1, c.limit_amount) DESC, c.spent DESC, c.subject, c.budget_id LIMIT %s""",
        [[budget for budget, _ in windows], [at for _, at in windows], tenant_id, limit],
    )


def subjects(*, tenant_id: UUID, windows: Sequence[tuple[UUID, datetime]]) -> dict[UUID, int]:
    """Returns how many subjects of some budgets called in the given windows, as the money path counts them."""
    found = rows(
        """SELECT s.budget_id, s.subjects FROM unnest(%s::uuid[], %s::timestamptz[]) AS w (budget_id, starts_at)
        JOIN counter_subjects s ON s.tenant_id = %s AND s.budget_id = w.budget_id AND s.starts_at = w.starts_at""",
        [[budget for budget, _ in windows], [at for _, at in windows], tenant_id],
    )
    return {row["budget_id"]: row["subjects"] for row in found}
