"""What customers owe for what they used: sums of usage, priced by the cards that held at the time; docs/billing.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

from billing.domain.card_timelines import Span, full_hour
from billing.domain.charging import Charge, Model, Stretch, Use, Uses, charge
from billing.queries.rate_cards import Cards, cards_of
from billing.queries.uses import HoursPruned, Used, used
from budgets.queries.bounded import TookTooLong
from noburn.kit.problems import FieldError, Invalid
from tenants.models import Customer
from tenants.services.customers import CustomerNotFound

CUSTOMERS_MAX: Final = 1_000
"""The most customers of one call."""

DAYS_MAX: Final = 400


class InvalidPeriod(Invalid):
    """A period that cannot be charged for."""


class PeriodPruned(InvalidPeriod):
    """A period of hours that are no longer kept: it can never be charged for again."""


def period_charge(
    *,
    tenant_id: UUID,
    customer_id: UUID,
    starts_at: datetime,
    until: datetime,
    now: datetime,
    final: bool = False,
) -> Charge:
    """Returns what a customer owes for its use in [starts_at, until) of a period that began at `starts_at`.

    Cumulative: what is owed for a later part is the difference of two charges of one period. Late settlements and
    re-ratings change it afterwards. `final` says that `until` is the period's end: then the minimum and the rounding of
    the card that holds there count. Both times are full hours (UTC). Presumed spending is not billed but where it was
    approved. Raises CustomerNotFound, InvalidPeriod.
    """
    name = customer_named(tenant_id=tenant_id, customer_id=customer_id)
    charges = period_charges(
        tenant_id=tenant_id, customers=[name], starts_at=starts_at, until=until, now=now, final=final
    )
    return charges[name]


def customer_named(*, tenant_id: UUID, customer_id: UUID) -> str:
    """Returns the tenant's own name of a customer. Raises CustomerNotFound."""
    found = Customer.objects.filter(tenant_id=tenant_id, pk=customer_id).values_list("external_id", flat=True)
    name = found.first()
    if name is None:
        raise CustomerNotFound(str(customer_id))
    return name


def period_charges(
    *,
    tenant_id: UUID,
    customers: Sequence[str],
    starts_at: datetime,
    until: datetime,
    now: datetime,
    final: bool = False,
    cards: Cards | None = None,
) -> dict[str, Charge]:
    """Returns the charges of up to 1,000 customers for one period, by the tenant's own names of them.

    As `period_charge`, in one question to the database. `cards` are other cards than those that hold, for a preview.
    """
    check_period(starts_at=starts_at, until=until, now=now, final=final)
    if len(customers) > CUSTOMERS_MAX:
        raise ValueError(f"at most {CUSTOMERS_MAX} customers at once, not {len(customers)}")
    held = cards or cards_of(tenant_id=tenant_id, customers=customers)
    return charges_by(tenant_id, customers, starts_at, until, [held], final)[0]


def check_period(*, starts_at: datetime, until: datetime, now: datetime, final: bool = False) -> None:
    """Raises InvalidPeriod with everything that is wrong with a period."""
    errors = [
        FieldError(field, "must be a full hour: usage is added up by the hour")
        for field, at in (("starts_at", starts_at), ("until", until))
        if not full_hour(at)
    ]
    if not starts_at <= until <= starts_at + timedelta(days=DAYS_MAX):
        errors.append(FieldError("until", f"must be 0 to {DAYS_MAX} days later than the start"))
    if final and until > now:
        errors.append(FieldError("until", "must have passed: a period that lasts is not final"))
    if errors:
        raise InvalidPeriod(errors)


def charges_by(
    tenant_id: UUID,
    customers: Sequence[str],
    starts_at: datetime,
    until: datetime,
    ways: Sequence[Cards],
    final: bool,
) -> list[dict[str, Charge]]:
    """Returns the charges of customers by each of some ways in which cards may hold, from one reading of the sums."""
    held = [
        {name: cards.spans_of(name, starts_at=starts_at, until=until) for name in customers} for cards in ways
    ]
    bounds = {starts_at, until} | {span.starts_at for way in held for found in way.values() for span in found}
    steps = list(pairwise(sorted(bounds)))
    try:
        read = used(tenant_id=tenant_id, customers=customers, spans=steps)
    except HoursPruned as pruned:
        message = f"{pruned}: begin and end with a day of UTC"
        raise PeriodPruned([FieldError("starts_at", message)]) from pruned
    except TookTooLong as slow:
        raise InvalidPeriod(
            [FieldError("starts_at", f"{slow}: ask for less time, or fewer customers")]
        ) from slow
    return [
        {
            name: replace(
                charge(
                    [Stretch(version=span.version, uses=_within(span, name, steps, read)) for span in found],
                    presumed_nano=read.presumed.get(name, 0),
                    final=found[-1].version if final and found else None,
                ),
                complete_through=read.complete_through,
            )
            for name, found in way.items()
        }
        for way in held
    ]


def _within(span: Span, customer: str, steps: Sequence[tuple[datetime, datetime]], read: Used) -> Uses:
    """What a customer used in a span, which is one or more steps."""
    whole: dict[Model, Use] = {}
    for number, (since, _) in enumerate(steps):
        if span.starts_at <= since < span.ends_at:
            for model, use in read.uses.get((customer, number), {}).items():
                whole[model] = whole[model] + use if model in whole else use
    return whole
