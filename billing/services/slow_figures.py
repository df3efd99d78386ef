"""Figures of billing that cost as much as a tenant has customers: what the month earned, what a card would have charged.

Kinds of `budgets.services.figures`: added up at once where that is quick, else by a worker.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from billing.domain.card_timelines import start_of_hour
from billing.domain.rate_cards import Terms
from billing.models import RateCardVersion
from billing.queries.rate_cards import version_of
from billing.services.card_periods import period_of
from billing.services.charges import InvalidPeriod
from billing.services.previews import preview
from billing.services.revenue import Earned, revenue
from budgets.queries.bounded import TookTooLong
from budgets.services.figures import add_kind, add_kind_about
from noburn.kit import ids
from tenants.models import Tenant

EARNED: Final = "earned"
WOULD: Final = "rc"
ROWS: Final = 50

Body = dict[str, Any]


def would_kind(version: RateCardVersion, period: str) -> str:
    """The kind of the figure of what a version would have charged in a period of PERIODS, in 40 characters."""
    return f"{WOULD}:{ids.encode('', version.pk)[1:]}:{period}"


def earned_in_month(tenant: Tenant, now: datetime) -> Body:
    """What use has earned since the month began; no `totals` where no hour of it is over. Raises TookTooLong."""
    starts_at, until = period_of("this-month", now)
    body: Body = {"since": starts_at.isoformat(), "totals": None, "problem": ""}
    if until > start_of_hour(now):
        return body
    try:
        found = revenue(tenant_id=tenant.pk, starts_at=starts_at, until=until, limit=1, now=now)
    except InvalidPeriod as invalid:
        return {**body, "problem": _problem(invalid)}
    return {**body, "totals": _earned(found.totals)}


def would_have_charged(tenant: Tenant, now: datetime, about: str) -> Body:
    """What a version of a card would have charged everybody in a period. Raises TookTooLong."""
    wire, _, period = about.partition(":")
    version = RateCardVersion.objects.get(tenant=tenant, pk=ids.decode("", f"_{wire}"))
    try:
        found = compared(tenant, version_of(version).terms, period, now)
    except InvalidPeriod as invalid:
        return {"since": None, "problem": _problem(invalid)}
    return {"since": None, "problem": "", **found}


def compared(tenant: Tenant, terms: Terms, period: str, now: datetime) -> Body:
    """What terms would have charged in a period, beside the cards that held. Raises InvalidPeriod."""
    starts_at, until = period_of(period, now)
    found = preview(
        tenant_id=tenant.pk,
        terms=terms,
        starts_at=starts_at,
        until=until,
        final=period != "this-month",
        customers=None,
        after="",
        limit=ROWS,
        now=now,
    )
    return {
        "starts_at": starts_at.isoformat(),
        "until": until.isoformat(),
        "held": _earned(found.held),
        "proposed": _earned(found.proposed),
        "difference_nano": found.proposed.revenue_nano - found.held.revenue_nano,
        "rows": [
            {
                "customer": one.customer,
                "cost_nano": one.held.cost_nano,
                "charged_nano": one.held.total_nano,
                "would_be_nano": one.proposed.total_nano,
                "difference_nano": one.proposed.total_nano - one.held.total_nano,
            }
            for one in found.items
        ],
        "more": found.more,
    }


def _earned(totals: Earned) -> Body:
    names = ("revenue_nano", "cost_nano", "margin_nano", "presumed_nano")
    return {name: getattr(totals, name) for name in names}


def _problem(invalid: InvalidPeriod) -> str:
    """What is wrong with the question. Raises TookTooLong where that is time alone, of which a worker has more."""
    if isinstance(invalid.__cause__, TookTooLong):
        raise invalid.__cause__
    return invalid.errors[0].message


def register() -> None:
    """Makes both kinds known to figures."""
    add_kind(EARNED, earned_in_month)
    add_kind_about(WOULD, would_have_charged)
