"""Which models calls were settled for at the book's prices, whoever's calls they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from budgets.queries.bounded import limited, rows

MILLISECONDS = 60_000
MODELS_MAX = 10_000


@dataclass(frozen=True)
class SettledModel:
    """A model by the name that calls gave it, how many were settled for it, and what they cost."""

    provider: str
    model: str
    calls: int
    cost_nano: int


def settled_models(*, since: datetime) -> Iterator[SettledModel]:
    """Yields the models of calls that were placed since a time and that a price row was used for.

    Not those that a caller priced itself (`cost_usd`), nor those at a negotiated price. Raises TookTooLong.
    """
    with limited(milliseconds=MILLISECONDS):
        found = rows(
            """SELECT provider, model, count(*) AS calls, sum(cost_nano)::bigint AS cost_nano
            FROM ledger_entries
            WHERE kind = 'settled' AND placed_month >= %s AND placed_at >= %s
                AND price_id <> '' AND strpos(price_id, '+') = 0
            GROUP BY provider, model ORDER BY sum(cost_nano) DESC, provider, model LIMIT %s""",
            [since.astimezone(UTC).date().replace(day=1), since, MODELS_MAX],
        )
    for row in found:
        yield SettledModel(row["provider"], row["model"], row["calls"], row["cost_nano"])
