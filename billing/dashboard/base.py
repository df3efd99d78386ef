"""What the pages about billing have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Final

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


class BillingPage(TenantPage):
    """A page below Billing; `tab` is the place that it belongs to."""

    topic = Topic.BILLING
    section = "billing"
    tab: ClassVar[str] = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The places beside this one."""
        tabs = [(label, self.url(route), route == self.tab) for route, label in TABS]
        return {**super().get_context_data(**kwargs), "tabs": tabs}
