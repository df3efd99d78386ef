"""Presumed spending that somebody approved, as far as it is still presumed in the sums that charges are made of."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from budgets.queries.billable import KINDS, Span, Statement

# Once a later entry of the hold is in the sums, they say what it cost, and the approval has nothing left to say.
STANDING = """NOT EXISTS (SELECT FROM ledger_entries l, usage_cursor c WHERE l.hold_id = a.hold_id
    AND l.placed_month = a.placed_month AND l.revision > 1 AND l.position < c.position)"""
"""The condition on an approval `a` under which it counts."""


def approved_by_model(*, tenant_id: UUID, customers: Sequence[str], spans: Sequence[Span]) -> Statement:
    """Returns a statement for rows as `use_by_model` has: what is approved is no longer presumed, but costs."""
    figures = ", ".join(
        (
            "nb_usage_bounded(sum(a.cost_nano))",
            "nb_usage_bounded(-sum(a.cost_nano))",
            "sum(a.requests)::bigint",
            *("0::bigint" for _ in KINDS),
        )
    )
    sql = f"""SELECT p.span, a.customer, a.provider, a.model, {figures}
        FROM unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[]) AS p (span, since, until)
        JOIN presumed_approvals a ON a.placed_at >= p.since AND a.placed_at < p.until
        WHERE a.tenant_id = %s AND a.customer = ANY (%s) AND {STANDING} GROUP BY 1, 2, 3, 4"""  # noqa: S608
    starts, ends = [span[0] for span in spans], [span[1] for span in spans]
    return sql, [list(range(len(spans))), starts, ends, tenant_id, list(customers)]
