"""What finding a budget's holds in Redis needs of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from budgets.queries.bounded import rows


def open_epoch(*, shard: int) -> UUID | None:
    """The epoch that is open in a shard."""
    found = rows("SELECT epoch_id FROM epochs WHERE shard = %s AND state = 'open'", [shard])
    return found[0]["epoch_id"] if found else None


def counters_of(*, tenant_id: UUID, budget_id: UUID, among: Sequence[UUID]) -> frozenset[UUID]:
    """Which of these counters are the budget's."""
    found = rows(
        "SELECT counter_id FROM counters WHERE tenant_id = %s AND budget_id = %s AND counter_id = ANY(%s)",
        [tenant_id, budget_id, list(among)],
    )
    return frozenset(row["counter_id"] for row in found)
