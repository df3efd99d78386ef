"""The operators' view of wallets: credit, the journal, payments. Nothing is changed here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from billing.models import CreditGrant, JournalPosting, TopUp, Wallet
from noburn.kit.money import to_usd
from tenants.admin.base import ReadOnlyAdmin

LINES_MAX = 50
TENANT = ("tenant", AutocompleteSelectFilter)


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("tenant",)
    list_display = ("tenant", "customer", "owed", "created_at", "closed_at")
    list_filter: Any = (TENANT,)
    search_fields = ("customer",)
    readonly_fields = ("owed",)
    fields = (
        "tenant", "customer", "owed", "burnt_nano", "low_nano", "auto_threshold_nano", "auto_amount_nano",
        "auto_monthly_max_nano", "auto_failures", "auto_retry_at", "created_at", "closed_at",
    )  # fmt: skip
    ordering = ("-created_at", "-pk")

    @display(description="Owed, USD")
    def owed(self, row: Wallet) -> str:
        return to_usd(row.owed_nano)


@admin.register(CreditGrant)
class CreditGrantAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("tenant", "wallet")
    list_display = (
        "tenant",
        "wallet",
        "kind",
        "amount",
        "remaining",
        "expires_at",
        "voided_at",
        "created_at",
    )
    list_filter: Any = (TENANT, ("kind", ChoicesDropdownFilter))
    readonly_fields = ("amount", "remaining")
    fields = (
        "tenant", "wallet", "kind", "amount", "remaining", "priority", "expires_at", "reason", "payment_id",
        "created_by", "created_at", "voided_at", "voided_by", "void_reason", "ended_at", "refund_wanted", "refund_id",
    )  # fmt: skip
    ordering = ("-created_at", "-pk")

    @display(description="Amount, USD")
    def amount(self, row: CreditGrant) -> str:
        return to_usd(row.amount_nano)

    @display(description="Left, USD")
    def remaining(self, row: CreditGrant) -> str:
        return to_usd(row.remaining_nano)


@admin.register(JournalPosting)
class JournalPostingAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("tenant", "wallet")
    list_display = ("tenant", "wallet", "kind", "calls", "actor", "created_at")
    list_filter: Any = (TENANT, ("kind", ChoicesDropdownFilter))
    readonly_fields = ("shown_lines",)
    fields = ("tenant", "wallet", "kind", "calls", "note", "actor", "created_at", "shown_lines")
    ordering = ("-created_at", "-pk")

    @display(description="Lines, USD")
    def shown_lines(self, row: JournalPosting) -> str:
        lines = row.lines.order_by("account", "pk")[:LINES_MAX]
        return "; ".join(f"{line.account} {to_usd(line.amount_nano)}" for line in lines)


@admin.register(TopUp)
class TopUpAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("tenant", "wallet")
    list_display = ("tenant", "wallet", "kind", "state", "amount", "failure", "created_at", "finished_at")
    list_filter: Any = (TENANT, ("state", ChoicesDropdownFilter), ("kind", ChoicesDropdownFilter))
    readonly_fields = ("amount",)
    fields = (
        "tenant", "wallet", "kind", "state", "amount", "checkout_id", "payment_id", "failure", "created_by",
        "created_at", "tried_at", "finished_at",
    )  # fmt: skip
    ordering = ("-created_at", "-pk")

    @display(description="Amount, USD")
    def amount(self, row: TopUp) -> str:
        return to_usd(row.amount_nano)
