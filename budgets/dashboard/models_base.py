"""What the pages about models have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

TABS: Final = (
    ("models", "Prices"),
    ("model-compare", "Compare"),
    ("price-overrides", "Negotiated"),
    ("models-unknown", "Unknown models"),
    ("reratings", "Re-ratings"),
)


class ModelsPage(TenantPage):
    """A page below Models; `tab` is the place that it belongs to."""

    topic = Topic.PRICES
    section = "models"
    tab: ClassVar[str] = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The places beside this one."""
        tabs = [(label, self.url(route), route == self.tab) for route, label in TABS]
        return {**super().get_context_data(**kwargs), "tabs": tabs}
