"""The price book: providers, models, and the dated rows. Appended by services, edited by nobody."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import display

from budgets.models import PriceModel, PriceProvider, PriceRow
from noburn.kit.clock import utc_now
from noburn.kit.money import pico_to_usd, rate_to_pico
from tenants.admin.base import ReadOnlyAdmin

MILLION = 1_000_000


@admin.register(PriceProvider)
class PriceProviderAdmin(ReadOnlyAdmin):
    list_display = ("id", "name", "position")
    search_fields = ("id", "name")
    ordering = ("position", "pk")


@admin.register(PriceModel)
class PriceModelAdmin(ReadOnlyAdmin):
    list_display = ("model", "provider", "context_window", "deprecated", "position")
    list_select_related = ("provider",)
    list_filter = (("provider", AutocompleteSelectFilter), "deprecated")
    search_fields = ("model", "=provider__id")
    ordering = ("provider_id", "position", "pk")


class InForceFilter(admin.SimpleListFilter):
    """Rows that price calls now, did so once, or will."""

    title = "in force"
    parameter_name = "in_force"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "Now"), ("past", "No longer"), ("future", "Not yet")]

    def queryset(self, request: Any, queryset: Any) -> Any:
        now = utc_now()
        match self.value():
            case "now":
                open_ended = Q(effective_to__isnull=True) | Q(effective_to__gt=now)
                return queryset.filter(open_ended, effective_from__lte=now)
            case "past":
                return queryset.filter(effective_to__lte=now)
            case "future":
                return queryset.filter(effective_from__gt=now)
            case _:
                return queryset


@admin.register(PriceRow)
class PriceRowAdmin(ReadOnlyAdmin):
    list_display = (
        "price_model", "variant", "unit", "tier_start", "per_million", "effective_from", "effective_to", "source",
    )  # fmt: skip
    list_select_related = ("price_model",)
    list_filter = (
        InForceFilter,
        ("price_model", AutocompleteSelectFilter),
        ("effective_from", RangeDateTimeFilter),
    )
    search_fields = ("price_model__model", "=price_model__provider__id", "=unit", "=variant")
    search_help_text = "A model, or exactly a provider, unit or variant."
    readonly_fields = ("per_million",)
    ordering = ("-effective_from", "-pk")

    @display(description="USD a million")
    def per_million(self, row: PriceRow) -> str:
        return pico_to_usd(rate_to_pico(row.price, field="price"), units=MILLION)
