"""Epochs as operators see them, each with what it strands."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from budgets.queries import epochs as query
from budgets.queries.bounded import Row, limited

EPOCH_STATES = query.STATES
LIST_MS = 3_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochPage:
    """Epochs; what each strands, by metric; and whether there are more."""

    rows: list[Row]
    stranded: dict[UUID, list[Row]]
    more: bool


def epoch_page(*, state: str, shard: int | None, limit: int, offset: int) -> EpochPage:
    """A page of epochs. Raises TookTooLong."""
    with limited(milliseconds=LIST_MS):
        found = query.epochs(state=state, shard=shard, limit=limit + 1, offset=offset)
        rows = found[:limit]
        stranded: dict[UUID, list[Row]] = defaultdict(list)
        for row in query.stranded_by_epoch(epoch_ids=[row["epoch_id"] for row in rows]):
            stranded[row["epoch_id"]].append(row)
    return EpochPage(rows=rows, stranded=stranded, more=len(found) > limit)


def one_epoch(*, epoch_id: UUID) -> Row | None:
    """One epoch, or None."""
    with limited(milliseconds=LIST_MS):
        return query.epoch(epoch_id=epoch_id)
