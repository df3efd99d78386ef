"""The routes of billing in the management API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from billing.api.invoices import CreditNotes, CustomerInvoices, Invoices, Portal
from billing.api.measurements import Measurements
from billing.api.plan import OwnPlan
from billing.api.reconciliation import Reconciliations
from billing.api.stripe_account import OwnStripe
from billing.api.stripe_links import StripeLinks

router = SimpleRouter(trailing_slash=False)
router.register("stripe-links", StripeLinks, basename="stripe-link")
router.register("measurements", Measurements, basename="measurement")
router.register("invoices", Invoices, basename="invoice")

urlpatterns = [
    *router.urls,
    path(
        "stripe",
        OwnStripe.as_view(
            {"get": "retrieve", "post": "create", "patch": "partial_update", "delete": "destroy"}
        ),
        name="stripe",
    ),
    path("stripe/set-up", OwnStripe.as_view({"post": "set_up"}), name="stripe-set-up"),
    path("account/plan", OwnPlan.as_view({"get": "retrieve"}), name="plan"),
    path("account/plan/checkout", OwnPlan.as_view({"post": "checkout"}), name="plan-checkout"),
    path("account/plan/portal", OwnPlan.as_view({"post": "portal"}), name="plan-portal"),
    path("account/plan/preview", OwnPlan.as_view({"post": "preview"}), name="plan-preview"),
    path("account/plan/change", OwnPlan.as_view({"post": "change"}), name="plan-change"),
    path("billing/reconciliation", Reconciliations.as_view({"get": "list"}), name="reconciliation"),
    path("customers/<pk>/invoices", CustomerInvoices.as_view({"get": "list"}), name="customer-invoices"),
    path("customers/<pk>/portal", Portal.as_view({"post": "create"}), name="customer-portal"),
    path(
        "invoices/<pk>/credit-notes",
        CreditNotes.as_view({"get": "list", "post": "create"}),
        name="credit-notes",
    ),
]
