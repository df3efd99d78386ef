"""What customers spent, for pages: some by name, or the dearest of all. From the sums of usage alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from budgets.queries.billable import Pieces, pieces
from budgets.queries.bounded import Row, rows

_SUMS = """nb_usage_bounded(sum(u.cost_nano)) AS cost_nano, nb_usage_bounded(sum(u.presumed_nano)) AS presumed_nano,
    sum(u.requests)::bigint AS requests"""


def of_customers(
    *, tenant_id: UUID, names: Sequence[str], since: datetime, until: datetime
) -> dict[str, Row]:
    """Returns `cost_nano`, `presumed_nano` and `requests` of some customers in [since, until), full hours, by name.

    Each is found by the index of customers, so it costs what these customers used, however many others there are.
    """
    halves, values = _halves(pieces([(since, until)]), tenant_id, "AND u.customer = ANY (%s)", [list(names)])
    found = rows(
        f"SELECT u.customer, {_SUMS} FROM ({halves}) AS u GROUP BY 1",  # noqa: S608
        values,
    )
    return {row["customer"]: row for row in found}


def dearest(*, tenant_id: UUID, since: datetime, until: datetime, limit: int) -> list[Row]:
    """Returns the customers that cost most in [since, until), with how many there were: `customers` in each row.

    Adds up everybody, which takes seconds for a hundred thousand: no page waits for it (services/figures.py).
    """
    halves, values = _halves(pieces([(since, until)]), tenant_id, "AND u.customer <> ''", [])
    return rows(
        f"""SELECT s.*, count(*) OVER () AS customers FROM (
            SELECT u.customer, {_SUMS} FROM ({halves}) AS u GROUP BY 1) AS s
        WHERE s.cost_nano <> 0 OR s.requests <> 0
        ORDER BY s.cost_nano DESC, s.customer LIMIT %s""",  # noqa: S608
        [*values, limit],
    )


def _halves(found: Pieces, tenant_id: UUID, condition: str, more: list[object]) -> tuple[str, list[object]]:
    """Rollups of whole days, and of the hours beside them."""
    parts: list[str] = []
    values: list[object] = []
    for grain, spans in (("hours", found.hours), ("days", found.days)):
        for _, since, until in spans:
            parts.append(
                f"""SELECT u.customer, u.cost_nano, u.presumed_nano, u.requests FROM usage_rollups u
                WHERE u.grain = '{grain}' AND u.tenant_id = %s AND u.bucket >= %s AND u.bucket < %s {condition}"""  # noqa: S608
            )
            values += [tenant_id, since, until, *more]
    return " UNION ALL ".join(parts), values
