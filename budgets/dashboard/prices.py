"""The price book at the tenant's own prices."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse

from budgets.dashboard.models_base import ModelsPage
from budgets.services.price_pages import SHOWN_UNITS, model_prices, priced_models, providers
from noburn.dashboard.exports import export

PAGE_ROWS: Final = 50
PAGES_MAX: Final = 1_000


class Prices(ModelsPage):
    """Models with what they cost now."""

    tab = "models"
    title = "Models"
    template_name = "models/prices.html"
    partials = {"price-rows": "models/_price_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-prices",
                columns=[
                    "provider",
                    "model",
                    *(f"{shown}_usd_per_million" for shown in SHOWN_UNITS),
                    "override",
                    "context_window",
                ],
                rows=(
                    [row.provider, row.model, *row.prices.values(), row.override or None, row.context_window]
                    for row in self._found()
                ),
            )
        return self.show()

    def _found(self) -> list[Any]:
        return priced_models(
            tenant_id=self.tenant_id,
            provider=self.request.GET.get("provider", "")[:100],
            search=self.request.GET.get("q", "")[:200],
            now=self.now,
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of models."""
        found = self._found()
        asked = self.request.GET.get("page", "1")
        page = min(int(asked), PAGES_MAX) if asked.isascii() and asked.isdigit() and int(asked[:5]) else 1
        shown = found[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
        return {
            **super().get_context_data(**kwargs),
            "rows": shown,
            "count": len(found),
            "page": page,
            "first": (page - 1) * PAGE_ROWS + 1,
            "last": (page - 1) * PAGE_ROWS + len(shown),
            "next_page": page + 1 if page * PAGE_ROWS < len(found) else None,
            "previous_page": page - 1 if page > 1 else None,
            "providers": providers(),
            "filters": {name: self.request.GET.get(name, "") for name in ("provider", "q")},
        }


class OneModel(ModelsPage):
    """Everything that one model costs, named by `provider` and `model`, since names of models hold slashes."""

    tab = "models"
    template_name = "models/model.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Its prices now and to come."""
        provider, model = (self.request.GET.get(name, "")[:200] for name in ("provider", "model"))
        found = model_prices(tenant_id=self.tenant_id, provider=provider, model=model, now=self.now)
        return {
            **super().get_context_data(**kwargs),
            "title": f"{provider}/{model}",
            "found": found,
            "parts": [("Now", found.now), ("To come", found.coming)],
        }
