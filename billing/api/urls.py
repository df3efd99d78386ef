"""The routes of billing in the management API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from billing.api.approvals import PresumedApprovals
from billing.api.assignments import RateCardAssignments
from billing.api.invoices import InvoicePreviews
from billing.api.previews import RateCardPreviews
from billing.api.rate_cards import RateCards, RateCardVersions
from billing.api.revenue import RevenueView

router = SimpleRouter(trailing_slash=False)
router.register("rate-cards", RateCards, basename="rate-card")
router.register("rate-card-assignments", RateCardAssignments, basename="rate-card-assignment")
router.register("presumed-approvals", PresumedApprovals, basename="presumed-approval")

urlpatterns = [
    # Before the router's, which would take it for a card's id.
    path("rate-cards/preview", RateCardPreviews.as_view({"post": "create"}), name="rate-card-preview"),
    *router.urls,
    path(
        "rate-cards/<pk>/versions",
        RateCardVersions.as_view({"get": "list", "post": "create"}),
        name="rate-card-versions",
    ),
    path(
        "rate-cards/<pk>/versions/<version>",
        RateCardVersions.as_view({"delete": "destroy"}),
        name="rate-card-version",
    ),
    path(
        "customers/<pk>/invoice-preview",
        InvoicePreviews.as_view({"get": "show"}),
        name="invoice-preview",
    ),
    path("revenue", RevenueView.as_view({"get": "ask"}), name="revenue"),
]
