"""The items of re-ratings, and the function that applies them, on a connection of the application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from budgets.stores.postgres.metering import Cursor


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A call that is to get another cost."""

    hold_id: UUID
    placed_month: date
    revision: int
    old_nano: int
    new_nano: int
    price_id: str
    provider: str
    model: str
    customer: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One batch: how many calls got their new cost, how many had moved, and the sum of the differences."""

    done: bool
    calls: int
    moved: int
    nano: int


def add_items(cursor: Cursor, *, tenant_id: UUID, rerating_id: UUID, items: Sequence[Item]) -> None:
    """Notes calls, each of which must be new to the re-rating."""
    names = (
        "hold_id",
        "placed_month",
        "revision",
        "old_nano",
        "new_nano",
        "price_id",
        "provider",
        "model",
        "customer",
    )
    columns = [[getattr(item, name) for item in items] for name in names]
    cursor.execute(
        f"""INSERT INTO rerating_items (tenant_id, rerating_id, {", ".join(names)})
        SELECT %s, %s, i.* FROM unnest(%s::uuid[], %s::date[], %s::integer[], %s::bigint[], %s::bigint[], %s::text[],
            %s::text[], %s::text[], %s::text[]) AS i""",  # noqa: S608
        [tenant_id, rerating_id, *columns],
    )


def rerate(cursor: Cursor, *, rerating_id: UUID, shard: int, limit: int) -> Applied | None:
    """Applies the next batch; None if somebody else is at it. sql/rerating.sql tells the rules."""
    cursor.execute(
        """SELECT q.a -> 'busy' IS NOT NULL, (q.a ->> 'done')::boolean, (q.a ->> 'applied')::bigint,
            (q.a ->> 'moved')::bigint, (q.a ->> 'nano')::bigint
        FROM (SELECT nb_rerate(%s, %s, %s) AS a OFFSET 0) AS q""",
        [rerating_id, shard, limit],
    )
    row = cursor.fetchone()
    assert row is not None
    return None if row[0] else Applied(*row[1:])


def prune_items(cursor: Cursor, *, before: datetime, limit: int) -> int:
    """Deletes items of re-ratings that were over before then; returns how many."""
    cursor.execute("SELECT nb_prune_rerating_items(%s, %s)", [before, limit])
    row = cursor.fetchone()
    return int(row[0]) if row else 0
