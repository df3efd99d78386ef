"""The routes of billing in the management API, under /v1/."""

from __future__ import annotations

from django.urls import path
from rest_framework.routers import SimpleRouter

from billing.api.approvals import PresumedApprovals
from billing.api.assignments import RateCardAssignments
from billing.api.balance_tokens import BalanceTokens
from billing.api.invoices import InvoicePreviews
from billing.api.measurements import Measurements
from billing.api.plan import OwnPlan
from billing.api.previews import RateCardPreviews
from billing.api.rate_cards import RateCards, RateCardVersions
from billing.api.reconciliation import Reconciliations
from billing.api.revenue import RevenueView
from billing.api.stripe_account import OwnStripe
from billing.api.stripe_invoices import CreditNotes, CustomerInvoices, Invoices, Portal
from billing.api.stripe_links import StripeLinks
from billing.api.wallet_credit import Grants, Journal, TopUps
from billing.api.wallets import Wallets

router = SimpleRouter(trailing_slash=False)
router.register("rate-cards", RateCards, basename="rate-card")
router.register("rate-card-assignments", RateCardAssignments, basename="rate-card-assignment")
router.register("presumed-approvals", PresumedApprovals, basename="presumed-approval")
router.register("stripe-links", StripeLinks, basename="stripe-link")
router.register("measurements", Measurements, basename="measurement")
router.register("invoices", Invoices, basename="invoice")
router.register("wallets", Wallets, basename="wallet")

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
    path("customers/<pk>/balance-token", BalanceTokens.as_view({"post": "create"}), name="balance-token"),
    path("revenue", RevenueView.as_view({"get": "ask"}), name="revenue"),
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
    path("stripe-links/<pk>/portal", Portal.as_view({"post": "create"}), name="portal"),
    path(
        "invoices/<pk>/credit-notes",
        CreditNotes.as_view({"get": "list", "post": "create"}),
        name="credit-notes",
    ),
    path("wallets/<pk>/close", Wallets.as_view({"post": "close"}), name="wallet-close"),
    path("wallets/<pk>/grants", Grants.as_view({"get": "list", "post": "create"}), name="wallet-grants"),
    path("wallets/<pk>/grants/<grant>/void", Grants.as_view({"post": "void"}), name="wallet-grant-void"),
    path("wallets/<pk>/journal", Journal.as_view({"get": "list"}), name="wallet-journal"),
    path("wallets/<pk>/top-ups", TopUps.as_view({"get": "list", "post": "create"}), name="wallet-top-ups"),
]
