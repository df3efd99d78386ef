"""Presumed spending that somebody approved, as far as it is still presumed in the sums that charges are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from budgets.queries.billable import KINDS, Span, Statement
from budgets.queries.bounded import Row, rows
from budgets.queries.comparison import month_of

# Once a later entry of the hold is in the sums, they say what it cost, and the approval has nothing left to say.
STANDING = """NOT EXISTS (SELECT FROM ledger_entries l, usage_cursor c WHERE l.hold_id = a.hold_id
    AND l.placed_month = a.placed_month AND l.revision > 1 AND l.position < c.position)"""
"""The condition on an approval `a` under which it counts."""


def approved_by_model(
    *, tenant_id: UUID, customers: Sequence[str] | None, spans: Sequence[Span], kinds: Sequence[str] = KINDS
) -> Statement:
    """Returns a statement for rows as `use_by_model` has: what is approved is no longer presumed, but costs.

    `customers` None: of all; `kinds` are those that the rows have, all of them 0.
    """
    named = "" if customers is None else "AND a.customer = ANY (%s)"
    figures = ", ".join(
        (
            "nb_usage_bounded(sum(a.cost_nano))",
            "nb_usage_bounded(-sum(a.cost_nano))",
            "sum(a.requests)::bigint",
            *("0::bigint" for _ in kinds),
        )
    )
    sql = f"""SELECT p.span, a.customer, a.provider, a.model, {figures}
        FROM unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS p (span, since, until)
        JOIN presumed_approvals a ON a.placed_at >= p.since AND a.placed_at < p.until
        WHERE a.tenant_id = %s {named} AND {STANDING} GROUP BY 1, 2, 3, 4"""  # noqa: S608
    starts, ends = [span[0] for span in spans], [span[1] for span in spans]
    whose: list[object] = [] if customers is None else [list(customers)]
    return sql, [list(range(len(spans))), starts, ends, tenant_id, *whose]


@dataclass(frozen=True, kw_only=True, slots=True)
class Presumed:
    """Which presumed calls are meant: one hold's, or a customer's that were placed in [since, until)."""

    tenant_id: UUID
    hold_id: UUID | None = None
    customer: str = ""
    since: datetime | None = None
    until: datetime | None = None
    after: tuple[datetime, UUID] | None = None
    """Where a page of them goes on: when a hold was placed, and the hold."""


def still_presumed(wanted: Presumed, *, limit: int) -> list[Row]:
    """Returns presumed calls that nobody has settled, voided or approved, the oldest first."""
    conditions = ["l.tenant_id = %s"]
    values: list[object] = [wanted.tenant_id]
    for condition, value in (
        ("l.hold_id = %s", wanted.hold_id),
        ("l.customer = %s", wanted.customer or None),
        ("l.placed_at >= %s", wanted.since),
        ("l.placed_at < %s", wanted.until),
        # The same once more, in the words by which partitions are left out.
        ("l.placed_month >= %s", wanted.since and month_of(wanted.since)),
        ("l.placed_month <= %s", wanted.until and month_of(wanted.until)),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if wanted.after is not None:
        conditions.append("(l.placed_at, l.hold_id) > (%s, %s)")
        values += wanted.after
    return rows(
        f"""SELECT l.hold_id, l.placed_month, l.placed_at, l.customer, l.provider, l.model, l.cost_nano, l.requests
        FROM ledger_entries l
        CROSS JOIN LATERAL (SELECT r.state FROM hold_resolutions r
            WHERE r.hold_id = l.hold_id AND r.placed_month = l.placed_month OFFSET 0) AS now
        WHERE {" AND ".join(conditions)} AND l.kind = 'presumed' AND l.revision = 1 AND now.state = 'presumed'
            AND NOT EXISTS (SELECT FROM presumed_approvals a
                WHERE a.tenant_id = l.tenant_id AND a.hold_id = l.hold_id)
        ORDER BY l.placed_at, l.hold_id LIMIT %s""",  # noqa: S608
        [*values, limit],
    )
