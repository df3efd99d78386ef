"""What a rate card, saved or not, would have charged for a time that has been, beside the cards that held then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from billing.domain.card_timelines import Assignment
from billing.domain.charging import Charge
from billing.domain.rate_cards import CardVersion, Terms
from billing.queries.rate_cards import DEFAULT, Cards, cards_of
from billing.queries.uses import bounded
from billing.services.charges import InvalidPeriod, charges_by, check_period
from billing.services.revenue import Earned, revenue
from budgets.queries.billable import customers_of
from budgets.queries.bounded import TookTooLong
from noburn.kit.problems import FieldError

CUSTOMERS_MAX: Final = 200
MILLISECONDS: Final = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What one customer was charged, and would have been."""

    customer: str
    held: Charge
    proposed: Charge


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """Customers by name; `more` if others follow. `held` and `proposed` are of everybody's use, without minimums."""

    items: list[Compared]
    more: bool
    complete_through: datetime | None
    held: Earned
    proposed: Earned


def preview(
    *,
    tenant_id: UUID,
    terms: Terms,
    starts_at: datetime,
    until: datetime,
    final: bool,
    customers: Sequence[str] | None,
    after: str,
    limit: int,
    now: datetime,
) -> Preview:
    """Prices use in [starts_at, until) by these terms for everybody, and by the cards that held; changes nothing.

    Of up to 200 `customers`, or of all that used anything, by name from behind `after` on. Raises InvalidPeriod.
    """
    check_period(starts_at=starts_at, until=until, now=now, final=final)
    if until > now:
        raise InvalidPeriod([FieldError("until", "must have passed: a preview is of use that has been")])
    if customers is None:
        try:
            with bounded(MILLISECONDS):
                names = customers_of(
                    tenant_id=tenant_id, since=starts_at, until=until, after=after, limit=limit + 1
                )
        except TookTooLong as slow:
            raise InvalidPeriod([FieldError("starts_at", f"{slow}: name customers")]) from slow
    else:
        names = sorted(name for name in customers if name > after)[: limit + 1]
    page = names[:limit]
    version = CardVersion(card_id=uuid4(), number=1, effective_from=starts_at, terms=terms)
    proposed = Cards(
        assignments={DEFAULT: [Assignment(effective_from=starts_at, card_id=version.card_id)]},
        versions=[version],
    )
    held = cards_of(tenant_id=tenant_id, customers=page)
    now_, then = charges_by(tenant_id, page, starts_at, until, [held, proposed], final)
    sums = [
        revenue(tenant_id=tenant_id, starts_at=starts_at, until=until, limit=1, now=now, cards=cards)
        for cards in (None, proposed)
    ]
    return Preview(
        items=[Compared(customer=name, held=now_[name], proposed=then[name]) for name in page],
        more=len(names) > limit,
        complete_through=sums[0].complete_through,
        held=sums[0].totals,
        proposed=sums[1].totals,
    )
