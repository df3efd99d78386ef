"""Every page of a tenant's, below /t/<slug>/. Each app says which pages it has; names are dashboard:<place>."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

app_name = "dashboard"

# By name and not by import: the shell knows no app.
PAGES = (
    "tenants.dashboard.urls",
    "budgets.dashboard.start_urls",
    "alerts.dashboard.urls",
    "budgets.dashboard.urls",
    "budgets.dashboard.rule_urls",
    "budgets.dashboard.model_urls",
    "billing.dashboard.urls",
    "billing.dashboard.customer_urls",
)

urlpatterns: list[URLPattern | URLResolver] = [path("", include(module)) for module in PAGES]
