"""Rate cards as operators see them. They are the tenants' own: nothing is changed here."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import display

from billing.models import PresumedApproval, RateCard, RateCardAssignment, RateCardVersion
from noburn.kit.money import to_usd
from tenants.admin.base import ReadOnlyAdmin


@admin.register(RateCard)
class RateCardAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "created_by", "created_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("=id", "name")
    ordering = ("-pk",)


@admin.register(RateCardVersion)
class RateCardVersionAdmin(ReadOnlyAdmin):
    list_display = ("card", "number", "tenant", "effective_from", "withdrawn_at", "created_by", "note")
    list_select_related = ("card", "tenant")
    list_filter = (("tenant", AutocompleteSelectFilter), ("effective_from", RangeDateTimeFilter))
    search_fields = ("=id", "=card__id", "card__name")
    ordering = ("-pk",)


@admin.register(RateCardAssignment)
class RateCardAssignmentAdmin(ReadOnlyAdmin):
    list_display = (
        "shown_customer",
        "card",
        "tenant",
        "effective_from",
        "withdrawn_at",
        "created_by",
        "note",
    )
    list_select_related = ("card", "tenant")
    list_filter = (("tenant", AutocompleteSelectFilter), ("effective_from", RangeDateTimeFilter))
    search_fields = ("=customer", "=card__id")
    ordering = ("-pk",)

    @display(description="Customer", ordering="customer")
    def shown_customer(self, row: RateCardAssignment) -> str:
        """The default has no customer."""
        return row.customer or "everybody else"


@admin.register(PresumedApproval)
class PresumedApprovalAdmin(ReadOnlyAdmin):
    list_display = ("hold_id", "tenant", "customer", "model", "cost", "reason", "approved_by", "approved_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("approved_at", RangeDateTimeFilter))
    search_fields = ("=hold_id", "=customer")
    ordering = ("-pk",)

    @display(description="Presumed cost (USD)", ordering="cost_nano")
    def cost(self, row: PresumedApproval) -> str:
        """As the ledger had it."""
        return to_usd(row.cost_nano)
