"""What the pages about billing have in common."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from billing.domain.card_timelines import start_of_hour
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

TABS: Final = (
    ("billing", "Overview"),
    ("rate-cards", "Rate cards"),
    ("wallets", "Wallets"),
    ("stripe", "Stripe"),
    ("presumed", "Presumed"),
    ("invoices", "Invoices"),
    ("reconciliation", "Reconciliation"),
    ("plan", "Your plan"),
)
PERIODS: Final = (
    ("last-month", "Last month"),
    ("this-month", "This month so far"),
    ("30-days", "Last 30 days"),
)


class BillingPage(TenantPage):
    """A page below Billing; `tab` is the place that it belongs to."""

    topic = Topic.BILLING
    section = "billing"
    tab: ClassVar[str] = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The places beside this one."""
        tabs = [(label, self.url(route), route == self.tab) for route, label in TABS]
        return {**super().get_context_data(**kwargs), "tabs": tabs}


def period_of(name: str, now: datetime) -> tuple[datetime, datetime]:
    """The period of a name in PERIODS, the first one for another name; whole hours, as charges are made of."""
    hour = start_of_hour(now.astimezone(UTC))
    month = hour.replace(day=1, hour=0)
    if name == "this-month":
        return month, max(hour, month + timedelta(hours=1))
    if name == "30-days":
        return hour - timedelta(days=30), hour
    return (month - timedelta(days=1)).replace(day=1), month
