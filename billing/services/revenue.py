"""Revenue, model cost and margin: what customers' use earned in a time, and what it cost the tenant; docs/billing.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final
from uuid import UUID

from billing.domain.card_timelines import Assignment, Span
from billing.domain.charging import YOCTO_PER_NANO
from billing.domain.revenue import bands, changes_within, factors, is_simple
from billing.queries.rate_cards import DEFAULT, Cards, cards_of
from billing.queries.revenue import DEFAULT_GROUP, Group, revenue_rows
from billing.queries.uses import bounded
from billing.services.charges import CUSTOMERS_MAX, InvalidPeriod, check_period, period_charges
from budgets.queries.billable import customers_of, models_of, pieces, through
from budgets.queries.bounded import Row, TookTooLong
from noburn.kit.money import divide_even
from noburn.kit.problems import FieldError

SINGLY_MAX: Final = 10_000
"""The most customers of one question that are priced one by one: the database adds up all others."""

MODELS_MAX: Final = 5_000
MILLISECONDS: Final = 10_000

Place = tuple[int, str]
"""Where a page ends: the last customer's margin in 10**-24 USD, and its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Earned:
    """What use earned and cost; the margin is the difference. What is presumed earns nothing yet, and costs besides."""

    revenue_nano: int
    cost_nano: int
    presumed_nano: int

    @property
    def margin_nano(self) -> int:
        """What is left."""
        return self.revenue_nano - self.cost_nano


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomerEarned(Earned):
    """The same of one customer; an empty name: calls that named none."""

    customer: str
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Revenue:
    """One page, the least margin first, and what all pages add up to."""

    items: list[CustomerEarned]
    totals: Earned
    customers: int
    complete_through: datetime | None


def revenue(
    *,
    tenant_id: UUID,
    starts_at: datetime,
    until: datetime,
    after: Place | None = None,
    limit: int,
    now: datetime,
    cards: Cards | None = None,
) -> Revenue:
    """Returns what use in [starts_at, until) earned, as one period of billing: `limit` customers behind `after`.

    Allowances and tiers count from `starts_at`; a minimum and the rounding of a period's total are left out, since
    neither is use's. Customers are priced by the database, in one statement; those whose own card changes within the
    time, or whose card has tiers by units, one by one, up to 10,000. `cards` are other cards than those that hold,
    for a preview.

    Raises InvalidPeriod, also where it cannot be added up in time.
    """
    check_period(starts_at=starts_at, until=until, now=now)
    held = cards or cards_of(tenant_id=tenant_id, customers=None)
    whole = Span(starts_at=starts_at, ends_at=until, version=None)
    sorted_ = _sort(held, whole)
    steps = sorted({starts_at, until} | {s.starts_at for _, spans in sorted_.groups for s in spans})
    spans = list(pairwise(steps))
    cut = pieces(spans)
    try:
        with bounded(MILLISECONDS):
            complete_through, hours_from = through()
            if cut.hours_from is not None and cut.hours_from < hours_from:
                raise InvalidPeriod(
                    [
                        FieldError(
                            "from", f"hours before {hours_from.isoformat()} are pruned: ask for whole days"
                        )
                    ]
                )
            models = models_of(tenant_id=tenant_id, since=starts_at, until=until, limit=MODELS_MAX + 1)
            used = set(sorted_.singly)
            if sorted_.default_singly:
                # Everybody whom no other group claims.
                found = customers_of(
                    tenant_id=tenant_id, since=starts_at, until=until, after="", limit=SINGLY_MAX + 1
                )
                used |= {name for name in found if name not in sorted_.members}
        if len(models) > MODELS_MAX:
            raise InvalidPeriod(
                [FieldError("from", f"there are more than {MODELS_MAX} models: ask for less time")]
            )
        if len(used) > SINGLY_MAX:
            message = f"more than {SINGLY_MAX} customers have cards that change in this time, or that have tiers by units"
            raise InvalidPeriod([FieldError("from", f"{message}: ask for a time without a change")])
        alone = _priced_singly(tenant_id, sorted(used), starts_at, until, held, now)
        groups = {
            number: Group(factors=factors(found, _numbers(found, spans), models), bands=bands(found))
            for number, found in sorted_.groups
        }
        with bounded(MILLISECONDS):
            rows = revenue_rows(
                tenant_id=tenant_id,
                spans=spans,
                found=cut,
                groups=groups,
                members=sorted_.members,
                singly=alone,
                after=after,
                limit=limit,
            )
    except TookTooLong as slow:
        raise InvalidPeriod([FieldError("from", f"{slow}: ask for less time")]) from slow
    return _shown(rows, complete_through)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sorted:
    """Groups that the database prices, with the spans of each; who belongs to which; who is priced one by one."""

    groups: list[tuple[int, tuple[Span, ...]]]
    members: dict[str, int]
    singly: list[str]
    default_singly: bool


def _sort(cards: Cards, whole: Span) -> _Sorted:
    """Sorts customers by the card that they have for the whole time; one whose own changes within it stands alone."""
    default = cards.assignments.get(DEFAULT, ())
    by_card: dict[UUID | None, list[str]] = {None: []}
    singly: list[str] = []
    for customer, own in cards.assignments.items():
        if customer == DEFAULT:
            continue
        if changes_within(own, whole):
            singly.append(customer)
            continue
        begun = [a for a in own if a.effective_from <= whole.starts_at]
        card = max(begun, key=lambda a: a.effective_from).card_id if begun else None
        by_card.setdefault(card, []).append(customer)
    groups: list[tuple[int, tuple[Span, ...]]] = []
    members: dict[str, int] = {}
    default_singly = False
    for number, (card, customers) in enumerate(by_card.items(), DEFAULT_GROUP):
        own = [] if card is None else [Assignment(effective_from=whole.starts_at, card_id=card)]
        one = Cards(assignments={"x": own, DEFAULT: default}, versions=cards.versions)
        spans = one.spans_of("x", starts_at=whole.starts_at, until=whole.ends_at)
        if not spans:
            continue
        if is_simple(spans):
            groups.append((number, spans))
            if card is not None:
                members |= dict.fromkeys(customers, number)
        elif card is None:
            default_singly = True
        else:
            singly += customers
    return _Sorted(groups=groups, members=members, singly=singly, default_singly=default_singly)


def _numbers(found: Sequence[Span], spans: Sequence[tuple[datetime, datetime]]) -> dict[int, int]:
    """Under which span of a group each span of the query is."""
    return {
        number: place
        for number, (since, _) in enumerate(spans)
        for place, span in enumerate(found)
        if span.starts_at <= since < span.ends_at
    }


def _priced_singly(
    tenant_id: UUID,
    customers: Sequence[str],
    starts_at: datetime,
    until: datetime,
    cards: Cards,
    now: datetime,
) -> dict[str, int]:
    found: dict[str, int] = {}
    for at in range(0, len(customers), CUSTOMERS_MAX):
        charges = period_charges(
            tenant_id=tenant_id,
            customers=customers[at : at + CUSTOMERS_MAX],
            starts_at=starts_at,
            until=until,
            now=now,
            cards=cards,
        )
        found |= {customer: charge.exact_yocto for customer, charge in charges.items()}
    return found


def _shown(rows: Sequence[Row], complete_through: datetime | None) -> Revenue:
    first = rows[0]
    return Revenue(
        items=[
            CustomerEarned(
                customer=row["customer"],
                **_earned(row, ""),
                place=(int(row["margin_yocto"]), row["customer"]),
            )
            for row in rows
            if row["customer"] is not None
        ],
        totals=Earned(**_earned(first, "all_")),
        customers=int(first["all_customers"] or 0),
        complete_through=complete_through,
    )


def _earned(row: Mapping[str, object], prefix: str) -> dict[str, int]:
    # A numeric of the database; sums of nothing are null.
    net, cost, presumed = (
        int(str(row[f"{prefix}{name}"] or 0)) for name in ("net_yocto", "cost_nano", "presumed_nano")
    )
    return {
        "revenue_nano": divide_even(net, YOCTO_PER_NANO),
        "cost_nano": cost,
        "presumed_nano": presumed,
    }
