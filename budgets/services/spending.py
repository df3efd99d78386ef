"""What was spent in the last days, told apart as a page wants it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from budgets.domain.usage import read_question
from budgets.queries import usage
from budgets.queries.billable import customers_of
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.spending import of_customers
from noburn.kit.problems import FieldError, Invalid
from tenants.models import Tenant

MILLISECONDS: Final = 3_000
HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """Rows with `names` and figures; `more` if others follow; totals of all of them; until when it is complete."""

    rows: list[Row]
    more: bool
    totals: Row
    complete_through: datetime | None


def spending(
    *, tenant: Tenant, group: str, since: datetime, filters: dict[str, str], limit: int, now: datetime
) -> Spending:
    """Returns what was spent since `since` by one kind of name, the dearest first. Raises Invalid.

    Not by customer for everybody: `spending_by_customer` tells those apart page by page.
    """
    groups = {"model": "provider,model"}.get(group, group)
    params = {"bucket": "none", "group_by": groups, "sort": "-cost_usd", "from": since.isoformat(), **filters}
    found = usage.ask(tenant_id=tenant.pk, question=read_question(params, now=now), after=None, limit=limit)
    return Spending(
        rows=found.rows[:limit],
        more=len(found.rows) > limit,
        totals=found.totals,
        complete_through=found.complete_through,
    )


def spending_by_customer(
    *, tenant: Tenant, since: datetime, after: str, limit: int, now: datetime
) -> Spending:
    """Returns what each customer spent since `since`, by name from behind `after` on; `names` has `customer`.

    Reads what the customers of the page used, and the totals from the sums that know no customers. Raises Invalid.
    """
    until = now.replace(minute=0, second=0, microsecond=0) + HOUR
    since = since.replace(minute=0, second=0, microsecond=0)
    question = read_question({"bucket": "none", "from": since.isoformat()}, now=now)
    totals = usage.ask(tenant_id=tenant.pk, question=question, after=None, limit=1)
    try:
        with limited(milliseconds=MILLISECONDS):
            names = customers_of(tenant_id=tenant.pk, since=since, until=until, after=after, limit=limit + 1)
            found = of_customers(tenant_id=tenant.pk, names=names[:limit], since=since, until=until)
    except TookTooLong as slow:
        message = f"finding these takes longer than {MILLISECONDS // 1000} s: ask for more days"
        raise Invalid([FieldError("days", message)]) from slow
    return Spending(
        rows=[
            {"names": {"customer": name}, "customer": name, **found[name]}
            for name in names[:limit]
            if name in found
        ],
        more=len(names) > limit,
        totals=totals.totals,
        complete_through=totals.complete_through,
    )
