"""Models without a price: what calls asked for, and what is to happen to them."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse

from budgets.dashboard.models_base import ModelsPage
from budgets.services.price_pages import unknown_models
from noburn.dashboard.exports import export
from noburn.kit.money import to_usd
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic
from tenants.services.tenant_settings import TenantSettings, change_settings

DAYS: Final = 30


class UnknownModelsPage(ModelsPage):
    """Models of the last 30 days that have no price."""

    tab = "models-unknown"
    title = "Unknown models"
    template_name = "models/unknown.html"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            found = self._found()
            return export(
                form,
                name=f"{self.tenant.slug}-unknown-models",
                columns=["provider", "model", "refused", "settled", "cost_usd"],
                rows=[
                    *([row.provider, row.model, row.calls, 0, "0"] for row in found.refused),
                    *(
                        [row["provider"], row["model"], 0, row["calls"], to_usd(row["cost_nano"])]
                        for row in found.used
                    ),
                ],
            )
        return self.show()

    def _found(self) -> Any:
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=self.now.tzinfo)
        assert midnight.time() == time()
        return unknown_models(tenant_id=self.tenant_id, since=midnight - timedelta(days=DAYS), now=self.now)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Both lists, and the policy."""
        return {
            **super().get_context_data(**kwargs),
            "found": self._found(),
            "days": DAYS,
            "may_set": self.may_change_topic(Topic.TENANT),
        }


class UnknownPolicy(TenantPage):
    """Sets what happens to a call of a model without a price."""

    topic = Topic.TENANT
    section = "models"
    for_changing = True
    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sets it; calls follow it at once."""
        wanted = TenantSettings(unknown_model=request.POST.get("unknown_model", "")[:20])
        change_settings(tenant_id=self.tenant_id, changes=wanted, actor=self.actor, now=self.now)
        return self.go("models-unknown", say="Calls follow it from now on.")
