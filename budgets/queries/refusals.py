"""What refused calls would have cost, by reason or by what would have refused, had it not only warned."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from budgets.queries.bounded import Row, rows
from budgets.queries.decisions import LATENESS


def refused(*, tenant_id: UUID, since: datetime, until: datetime) -> list[Row]:
    """Returns `reason`, `calls` and `estimate_nano` of what was refused in [since, until), most calls first.

    `estimate_nano` is the most that they could have cost; those whose cost nobody could bound are in `calls` alone.
    Reads every refusal of the time by the index of refusals: a loop's million take seconds, so no page waits for it.
    """
    return rows(
        """SELECT d.reason, count(*) AS calls, nb_usage_bounded(coalesce(sum(d.estimate_nano), 0)) AS estimate_nano
        FROM decisions d
        WHERE d.tenant_id = %s AND d.reason IS NOT NULL AND (d.reason IS NOT NULL OR d.shadow IS NOT NULL)
            AND d.decided_at >= %s AND d.decided_at < %s
            AND d.id >= nb_decision_floor(%s) AND d.id < nb_decision_floor(%s)
        GROUP BY 1 ORDER BY 2 DESC, 1""",
        [tenant_id, since, until, since, until + LATENESS],
    )


def shadowed(*, tenant_id: UUID, budget_id: UUID, since: datetime, until: datetime, most: int) -> Row:
    """Returns `calls` and `estimate_nano` of the newest `most` calls that a warning budget would have refused.

    `calls` is `most` when there are more.
    """
    (found,) = rows(
        """SELECT count(*) AS calls, nb_usage_bounded(coalesce(sum(s.estimate_nano), 0)) AS estimate_nano FROM (
            SELECT d.estimate_nano FROM decisions d
            WHERE d.tenant_id = %s AND (d.reason IS NOT NULL OR d.shadow IS NOT NULL) AND %s = ANY (d.shadow)
                AND d.id >= nb_decision_floor(%s) AND d.id < nb_decision_floor(%s)
            ORDER BY d.id DESC LIMIT %s) AS s""",
        [tenant_id, budget_id, since, until + LATENESS, most],
    )
    return found
