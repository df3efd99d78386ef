"""Pages of the dashboard about rate cards, invoices, wallets and Stripe."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing.dashboard.assignments import AssignCard, WithdrawAssignment
from billing.dashboard.cards import (
    AppendVersion,
    CardPreview,
    NewCard,
    OneCard,
    RateCards,
    RenameCard,
    WithdrawVersion,
)
from billing.dashboard.credit import Grant, VoidGrant
from billing.dashboard.invoices import Invoices, OneInvoice
from billing.dashboard.overview import Overview
from billing.dashboard.plan import ChangePlan, Plan, PlanCheckout, PlanPortal
from billing.dashboard.presumed import ApprovePresumed, PresumedApproved, PresumedWaiting
from billing.dashboard.reconciliation import Reconciliations, ReissueMeasurement
from billing.dashboard.stripe_account import ConnectStripe, DisconnectStripe, SetUpStripe, Stripe
from billing.dashboard.stripe_links import LinkCustomer, UnlinkCustomer
from billing.dashboard.wallets import (
    CloseWallet,
    Journal,
    NewWallet,
    OneWallet,
    TopUpWallet,
    Wallets,
)

urlpatterns: list[URLPattern] = [
    path("billing", Overview.as_view(), name="billing"),
    path("billing/presumed", PresumedWaiting.as_view(), name="presumed"),
    path("billing/presumed/approved", PresumedApproved.as_view(), name="presumed-approved"),
    path("billing/presumed/approve", ApprovePresumed.as_view(), name="presumed-approve"),
    path("billing/cards", RateCards.as_view(), name="rate-cards"),
    path("billing/cards/new", NewCard.as_view(), name="rate-card-new"),
    path("billing/cards/assign", AssignCard.as_view(), name="rate-card-assign"),
    path("billing/assignments/<str:rca>/withdraw", WithdrawAssignment.as_view(), name="assignment-withdraw"),
    path("billing/cards/<str:rcd>", OneCard.as_view(), name="rate-card"),
    path("billing/cards/<str:rcd>/preview", CardPreview.as_view(), name="rate-card-preview"),
    path("billing/cards/<str:rcd>/change", AppendVersion.as_view(), name="rate-card-change"),
    path("billing/cards/<str:rcd>/rename", RenameCard.as_view(), name="rate-card-rename"),
    path(
        "billing/cards/<str:rcd>/versions/<str:rcv>/withdraw",
        WithdrawVersion.as_view(),
        name="rate-card-withdraw",
    ),
    path("billing/wallets", Wallets.as_view(), name="wallets"),
    path("billing/wallets/new", NewWallet.as_view(), name="wallet-new"),
    path("billing/wallets/<str:wal>", OneWallet.as_view(), name="wallet"),
    path("billing/wallets/<str:wal>/journal", Journal.as_view(), name="wallet-journal"),
    path("billing/wallets/<str:wal>/grant", Grant.as_view(), name="wallet-grant"),
    path("billing/wallets/<str:wal>/top-up", TopUpWallet.as_view(), name="wallet-top-up"),
    path("billing/wallets/<str:wal>/close", CloseWallet.as_view(), name="wallet-close"),
    path("billing/wallets/<str:wal>/grants/<str:crg>/void", VoidGrant.as_view(), name="wallet-grant-void"),
    path("billing/stripe", Stripe.as_view(), name="stripe"),
    path("billing/stripe/connect", ConnectStripe.as_view(), name="stripe-connect"),
    path("billing/stripe/set-up", SetUpStripe.as_view(), name="stripe-set-up"),
    path("billing/stripe/disconnect", DisconnectStripe.as_view(), name="stripe-disconnect"),
    path("billing/stripe/link", LinkCustomer.as_view(), name="stripe-link"),
    path("billing/stripe/links/<str:lnk>/remove", UnlinkCustomer.as_view(), name="stripe-unlink"),
    path("billing/invoices", Invoices.as_view(), name="invoices"),
    path("billing/invoices/<str:inv>", OneInvoice.as_view(), name="invoice"),
    path("billing/reconciliation", Reconciliations.as_view(), name="reconciliation"),
    path("billing/measurements/<str:msr>/reissue", ReissueMeasurement.as_view(), name="measurement-reissue"),
    path("billing/plan", Plan.as_view(), name="plan"),
    path("billing/plan/checkout", PlanCheckout.as_view(), name="plan-checkout"),
    path("billing/plan/portal", PlanPortal.as_view(), name="plan-portal"),
    path("billing/plan/change/<slug:plan>", ChangePlan.as_view(), name="plan-change"),
]
