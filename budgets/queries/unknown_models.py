"""Which models a tenant's calls asked for without a price, and which they were settled for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from budgets.queries.bounded import Row, limited, rows

MODELS_MAX: Final = 200
MILLISECONDS: Final = 3_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedModel:
    """A model whose calls were refused for want of a price, and the last time."""

    provider: str
    model: str
    calls: int
    last_at: datetime


def refused_models(*, tenant_id: UUID, since: datetime) -> list[RefusedModel]:
    """Models that were refused as `price_unknown` since a time, the most asked for first. Raises TookTooLong."""
    with limited(milliseconds=MILLISECONDS):
        found = rows(
            """SELECT coalesce(provider, '') AS provider, coalesce(model, '') AS model, count(*) AS calls,
                max(decided_at) AS last_at
            FROM decisions WHERE tenant_id = %s AND reason = 'price_unknown' AND decided_at >= %s
                AND id >= nb_decision_floor(%s)
            GROUP BY 1, 2 ORDER BY count(*) DESC, 1, 2 LIMIT %s""",
            [tenant_id, since, since, MODELS_MAX],
        )
    return [RefusedModel(**row) for row in found]


def used_models(*, tenant_id: UUID, since: datetime) -> list[Row]:
    """Models that settled calls named since the beginning of a day, with calls and cost, dearest first.

    Raises TookTooLong.
    """
    with limited(milliseconds=MILLISECONDS):
        return rows(
            """SELECT provider, model, sum(requests)::bigint AS calls, sum(cost_nano)::bigint AS cost_nano
            FROM usage_rollups WHERE grain = 'total_days' AND tenant_id = %s AND bucket >= %s AND model <> ''
            GROUP BY 1, 2 HAVING sum(requests) > 0 ORDER BY 4 DESC, 1, 2 LIMIT %s""",
            [tenant_id, since, MODELS_MAX],
        )
