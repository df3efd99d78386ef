"""The operators' view of Stripe: accounts, links, outbox, inbox, what reconciliation found. Nothing is changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.models import (
    BillingPeriod,
    CreditNote,
    Measurement,
    Reconciliation,
    StripeAccount,
    StripeEvent,
    StripeInvoice,
    StripeLink,
)
from noburn.kit.money import to_usd
from tenants.admin.base import ReadOnlyAdmin

STATES = {
    "pending": "info",
    "ready": "success",
    "linked": "success",
    "delivered": "success",
    "handled": "success",
    "issued": "success",
    "failed": "danger",
    "unclear": "danger",
    "abandoned": "warning",
    "disconnected": "plain",
    "ignored": "plain",
}


class _Stated(ReadOnlyAdmin):
    """Rows of a tenant that have a state."""

    list_select_related: Any = ("tenant",)
    list_filter: Any = (("tenant", AutocompleteSelectFilter), ("state", ChoicesDropdownFilter))
    readonly_fields = ("shown_state",)
    ordering = ("-pk",)

    @display(description="State", label=STATES, ordering="state")
    def shown_state(self, row: StripeAccount | StripeLink | Measurement | StripeEvent | CreditNote) -> str:
        return row.state


@admin.register(StripeAccount)
class StripeAccountAdmin(_Stated):
    list_display = ("tenant", "mode", "livemode", "shown_state", "problem", "updated_at")
    # Neither the key nor the secrets, sealed as they are.
    fields = (
        "tenant", "mode", "account", "key_last4", "livemode", "shown_state", "problem", "meter_id", "product_id",
        "price_id", "suspend_delinquent", "billed_from", "tries", "next_attempt_at", "paused_until", "version",
        "created_at", "updated_at", "ready_at",
    )  # fmt: skip
    search_fields = ("=tenant__slug", "=account")


@admin.register(StripeLink)
class StripeLinkAdmin(_Stated):
    list_display = (
        "customer",
        "tenant",
        "shown_state",
        "stripe_customer",
        "subscription_status",
        "frozen_until",
    )
    list_select_related = ("tenant", "customer")
    fields = (
        "tenant", "customer", "shown_state", "problem", "stripe_customer", "subscription", "subscription_status",
        "period_starts_at", "period_ends_at", "frozen_until", "next_freeze_at", "delinquent_at", "suspended",
        "reconciled_at", "tries", "next_attempt_at", "version", "created_at", "updated_at",
    )  # fmt: skip
    search_fields = ("=tenant__slug", "=customer__external_id", "=stripe_customer", "=subscription")


@admin.register(BillingPeriod)
class BillingPeriodAdmin(ReadOnlyAdmin):
    list_display = ("customer", "tenant", "starts_at", "ends_at", "closed_at", "invoice")
    list_select_related = ("tenant", "customer")
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("=tenant__slug", "=customer__external_id", "=invoice")
    ordering = ("-pk",)


@admin.register(Measurement)
class MeasurementAdmin(_Stated):
    list_display = (
        "window_starts_at",
        "seq",
        "customer",
        "tenant",
        "kind",
        "amount",
        "shown_state",
        "tries",
        "error",
    )
    list_select_related = ("tenant", "customer")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("state", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
    )
    search_fields = ("=tenant__slug", "=customer__external_id", "=key", "=stripe_customer")

    @display(description="USD", ordering="value_micro")
    def amount(self, row: Measurement) -> str:
        return to_usd(row.value_micro * 1000)


@admin.register(StripeEvent)
class StripeEventAdmin(_Stated):
    list_display = ("received_at", "tenant", "type", "event_id", "shown_state", "tries", "error")
    # Not the payload: it holds what a tenant's customers told Stripe.
    fields = (
        "tenant", "event_id", "type", "livemode", "happened_at", "received_at", "shown_state", "tries",
        "next_attempt_at", "handled_at", "error",
    )  # fmt: skip
    search_fields = ("=tenant__slug", "=event_id", "=type")


@admin.register(StripeInvoice)
class StripeInvoiceAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "customer", "tenant", "number", "status", "total", "currency", "seen_at")
    list_select_related = ("tenant", "customer")
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("=tenant__slug", "=customer__external_id", "=stripe_id", "=number")
    ordering = ("-pk",)


@admin.register(CreditNote)
class CreditNoteAdmin(_Stated):
    list_display = ("created_at", "invoice", "tenant", "amount", "reason", "shown_state", "problem")
    list_select_related = ("tenant", "invoice")
    search_fields = ("=tenant__slug", "=stripe_id", "=number")


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    list_display = ("customer", "tenant", "period", "agrees", "unexplained", "checked_at")
    list_select_related = ("tenant", "customer", "period")
    list_filter = (("tenant", AutocompleteSelectFilter), "agrees")
    search_fields = ("=tenant__slug", "=customer__external_id")
    ordering = ("-pk",)

    @display(description="Unexplained USD", ordering="unexplained_micro")
    def unexplained(self, row: Reconciliation) -> str:
        return to_usd(row.unexplained_micro * 1000)
