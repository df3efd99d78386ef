"""What the pages about alerts have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from noburn.dashboard.navigation import page_url
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

# Thresholds are budgets', which know of alerts and not the other way round: their page is reached by its name.
TABS = (
    ("alerts", "Alerts"),
    ("destinations", "Destinations"),
    ("deliveries", "Deliveries"),
    ("alert-thresholds", "Thresholds"),
)


def tabs(*, tenant: str, current: str) -> list[tuple[str, str, bool]]:
    """The places below Alerts."""
    return [(label, page_url(route, tenant=tenant), route == current) for route, label in TABS]


class AlertsPage(TenantPage):
    """A page below Alerts; `tab` is the place that it belongs to."""

    topic = Topic.ALERTS
    section = "alerts"
    tab: ClassVar[str] = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The places beside this one."""
        return {
            **super().get_context_data(**kwargs),
            "tabs": tabs(tenant=self.tenant.slug, current=self.tab),
        }
