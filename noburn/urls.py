"""Django's routes. The data plane's paths never come here: noburn.asgi hands them to the gateway."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from billing.api.original import report_revenue
from billing.api.webhooks import receive_webhook
from billing.dashboard.embed import show_balance
from budgets.admin.metrics import metrics
from noburn import pages
from noburn.docs.views import index as docs_index
from noburn.openapi.views import show_document
from tenants.admin.signing_in import operators_sign_in

urlpatterns: list[URLPattern | URLResolver] = [
    path("", pages.home, name="home"),
    path("docs/", docs_index, name="docs"),
    path("docs/", include("noburn.docs.urls")),
    path("", include("tenants.dashboard.entrance_urls")),
    path("t/<slug:tenant>/", include("noburn.dashboard.urls")),
    path("metrics", metrics, name="metrics"),
    path("v1/", include("tenants.api.urls")),
    path("v1/", include("alerts.api.urls")),
    path("v1/", include("budgets.api.urls")),
    path("v1/", include("billing.api.urls")),
    path("v1/openapi.json", show_document, name="openapi"),
    # The original client's; its other paths are the gateway's.
    path("api/v1/revenue", report_revenue, name="original-revenue"),
    path("embed/balance", show_balance, name="embed-balance"),
    # What Stripe calls, and nobody else: no part of the management API.
    path("stripe/webhooks/<str:endpoint>", receive_webhook, name="stripe-webhook"),
    # Before the admin, which answers every path below its own, and would take passwords itself.
    path(f"{settings.NOBURN_ADMIN_PATH}/login/", operators_sign_in),
    path(f"{settings.NOBURN_ADMIN_PATH}/money/", include("budgets.admin.urls")),
    path(f"{settings.NOBURN_ADMIN_PATH}/", admin.site.urls),
]
handler404 = pages.not_found
