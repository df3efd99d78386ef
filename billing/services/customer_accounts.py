"""One customer's account as people look at it: what it used and owes this month, and what is in its wallet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from billing.domain.charging import Charge
from billing.models import Wallet
from billing.services.charges import InvalidPeriod, period_charge
from billing.services.wallet_shares import share_in
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.queries.spending import of_customers
from budgets.services.figures import day_of, month_of
from budgets.services.overview import spending_days
from budgets.services.standing import Standing, of_customer
from tenants.models import Customer, Tenant

CHART_DAYS: Final = 30
REFUSALS: Final = 10
MILLISECONDS: Final = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What a customer's page shows. None: not to be had in time, or not there.

    `charge` is of the month of UTC so far, as invoices are; `days` are those of `zone`.
    """

    today: Row
    month: Row
    days: list[Row]
    zone: str
    standings: list[Standing]
    refusals: list[Row] | None
    charge: Charge | None
    charge_starts_at: datetime
    wallet_nano: int
    wallet: Wallet | None

    @property
    def margin_nano(self) -> int | None:
        """What the month's charge leaves of what its use cost."""
        return None if self.charge is None else self.charge.total_nano - self.charge.cost_nano

    @property
    def to_invoice_nano(self) -> int | None:
        """What of the charge the wallet does not pay."""
        return None if self.charge is None else self.charge.total_nano - self.wallet_nano


def account(*, tenant: Tenant, customer: Customer, now: datetime) -> Account:
    """Reads it: what this customer used, however many others there are."""
    name = customer.external_id
    sums = [
        of_customers(tenant_id=tenant.pk, names=[name], since=since, until=until).get(name, NOTHING)
        for since, until in (day_of(tenant, now), month_of(tenant, now))
        if until is not None
    ]
    days, zone = spending_days(tenant=tenant, days=CHART_DAYS, now=now, customer=name)
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    starts_at, until = hour.replace(day=1, hour=0), hour + timedelta(hours=1)
    charge, paid = None, 0
    try:
        charge = period_charge(
            tenant_id=tenant.pk, customer_id=customer.pk, starts_at=starts_at, until=until, now=now
        )
        paid = share_in(
            tenant_id=tenant.pk, customer=name, charge=charge, starts_at=starts_at, until=until
        ).paid_nano
    except InvalidPeriod:
        # It could not be added up in time; the rest of the page is right without it.
        charge = None
    return Account(
        today=sums[0],
        month=sums[1],
        days=days,
        zone=zone,
        standings=of_customer(tenant=tenant, customer=name, now=now),
        refusals=_refusals(tenant, name),
        charge=charge,
        charge_starts_at=starts_at,
        wallet_nano=paid,
        wallet=Wallet.objects.filter(tenant=tenant, customer=name).first(),
    )


NOTHING: Final[Row] = {"cost_nano": 0, "presumed_nano": 0, "requests": 0}


def _refusals(tenant: Tenant, customer: str) -> list[Row] | None:
    wanted = DecisionFilter(tenant_id=tenant.pk, customer=customer, allowed=False)
    try:
        with limited(milliseconds=MILLISECONDS):
            return decisions(wanted=wanted, before=None, limit=REFUSALS)
    except TookTooLong:
        return None


def month_by_customer(*, tenant: Tenant, customers: list[Customer], now: datetime) -> dict[str, Row]:
    """Returns what some customers spent in the tenant's month, by their ids."""
    since, until = month_of(tenant, now)
    assert until is not None
    names = [customer.external_id for customer in customers]
    return of_customers(tenant_id=tenant.pk, names=names, since=since, until=until) if names else {}
