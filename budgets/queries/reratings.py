"""What a re-rating is about: calls in the order of their placing, and a digest that tells whether any of them changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from budgets.domain.rerating import GROUPS_MAX, SeenCall
from budgets.models import Rerating
from budgets.queries.bounded import Row, rows
from budgets.queries.comparison import month_of, read_usage

# The one entry that says what a hold is now: settlements and presumptions have one each, re-ratings follow them.
_KINDS = "l.kind IN ('settled', 'presumed')"
_DIGEST = "hashtextextended(r.hold_id::text || ' ' || r.revision || ' ' || r.state, 0)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Calls, each with its month, its customer and its part of the digest; `last` is where the next page goes on."""

    calls: list[tuple[SeenCall, date, str, int]]
    last: tuple[datetime, UUID] | None
    more: bool


def _conditions(rerating: Rerating) -> tuple[str, list[object]]:
    sql = f"""l.tenant_id = %s AND l.placed_at >= %s AND l.placed_at < %s AND l.placed_month BETWEEN %s AND %s
        AND {_KINDS}"""
    parameters: list[object] = [
        rerating.tenant_id,
        rerating.starts_at,
        rerating.ends_at,
        month_of(rerating.starts_at),
        month_of(rerating.ends_at),
    ]
    for name in ("provider", "model", "customer", "project"):
        if value := getattr(rerating, name):
            sql += f" AND l.{name} = %s"
            parameters.append(value)
    return sql, parameters


def calls(rerating: Rerating, *, after: tuple[datetime, UUID] | None, limit: int) -> Page:
    """The next calls, at most `limit`, in the order of their placing."""
    sql, parameters = _conditions(rerating)
    if after is not None:
        sql += " AND (l.placed_at, l.hold_id) > (%s, %s)"
        parameters += after
    # Each resolution by its key: joined freely, a table that grew since it was last analysed may be read whole for each.
    found = rows(
        f"""SELECT e.*, r.state, r.revision, r.cost_nano, r.held_cost_nano, {_DIGEST} AS digest
        FROM (SELECT l.hold_id, l.placed_month, l.placed_at, l.kind, l.cost_origin, l.provider, l.model, l.reported_model,
                l.customer, l.price_id, CASE WHEN l.cost_origin = 'priced' THEN l.usage::text END AS usage
            FROM ledger_entries l WHERE {sql} ORDER BY l.placed_at, l.hold_id LIMIT %s) AS e
        CROSS JOIN LATERAL (SELECT * FROM hold_resolutions
            WHERE hold_id = e.hold_id AND placed_month = e.placed_month OFFSET 0) AS r
        ORDER BY e.placed_at, e.hold_id""",  # noqa: S608
        [*parameters, limit],
    )
    seen = [
        (_call(row), row["placed_month"], row["customer"], row["digest"])
        for row in found
        # A presumption that was settled or voided since has another entry, or none that counts.
        if row["kind"] == row["state"]
    ]
    last = (found[-1]["placed_at"], found[-1]["hold_id"]) if found else None
    return Page(calls=seen, last=last, more=len(found) == limit)


def _call(row: Row) -> SeenCall:
    return SeenCall(
        hold_id=row["hold_id"],
        revision=row["revision"],
        settled=row["kind"] == "settled",
        placed_at=row["placed_at"],
        origin=row["cost_origin"],
        provider=row["provider"],
        asked=row["model"],
        reported=row["reported_model"],
        price_name=row["price_id"],
        usage=read_usage(row["usage"]),
        held_nano=row["held_cost_nano"],
        cost_nano=row["cost_nano"],
    )


def seen_now(rerating: Rerating, *, limit: int) -> tuple[int, int]:
    """How many calls there are, at most `limit`, and their digest, in whatever order they are read."""
    sql, parameters = _conditions(rerating)
    (found,) = rows(
        f"""SELECT count(*) AS calls, coalesce(bit_xor(s.digest), 0) AS digest
        FROM (SELECT {_DIGEST} AS digest FROM ledger_entries l
            JOIN hold_resolutions r ON r.hold_id = l.hold_id AND r.placed_month = l.placed_month
            WHERE {sql} AND l.kind = r.state LIMIT %s) AS s""",  # noqa: S608
        [*parameters, limit],
    )
    return found["calls"], found["digest"]


def differences(rerating: Rerating, by: tuple[str, ...]) -> tuple[list[dict[str, Any]], int]:
    """Old and new cost by some of provider, model and customer, the largest differences first, and how many there are."""
    names = ", ".join(f"i.{name}" for name in by)
    found = rows(
        f"""SELECT {names}, count(*) AS calls, sum(i.old_nano)::bigint AS old_nano, sum(i.new_nano)::bigint AS new_nano,
            count(*) OVER () AS groups
        FROM rerating_items i WHERE i.rerating_id = %s GROUP BY {names}
        ORDER BY abs(sum(i.new_nano - i.old_nano)) DESC, {names} LIMIT %s""",  # noqa: S608
        [rerating.pk, GROUPS_MAX],
    )
    kept = (*by, "calls", "old_nano", "new_nano")
    return [{name: row[name] for name in kept} for row in found], found[0]["groups"] if found else 0
