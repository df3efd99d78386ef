"""The operators' view of payments that tenants report. Nothing is changed here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from billing.models import ReportedPayment
from noburn.kit.money import to_usd
from tenants.admin.base import ReadOnlyAdmin


@admin.register(ReportedPayment)
class ReportedPaymentAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("tenant",)
    list_display = ("tenant", "project", "customer", "amount", "occurred_at", "external_id")
    list_filter: Any = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("customer", "external_id")
    readonly_fields = ("amount",)
    fields = (
        "tenant", "project", "customer", "amount", "occurred_at", "external_id", "source", "created_at",
    )  # fmt: skip
    ordering = ("-created_at", "-pk")

    @display(description="Amount, USD")
    def amount(self, row: ReportedPayment) -> str:
        return to_usd(row.amount_nano)
