"""The price book: providers, models, and the dated rows. Appended by services, edited by nobody."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import display

from budgets.models import PriceModel, PriceOverride, PriceProposal, PriceProvider, PriceRow
from budgets.services.price_proposals import approve, reject
from noburn.kit.clock import utc_now
from noburn.kit.money import pico_to_usd, rate_to_pico
from tenants.admin.base import ReadOnlyAdmin, operator

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
        "price_model", "variant", "unit", "tier_start", "per_million", "effective_from", "effective_to",
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


@admin.register(PriceOverride)
class PriceOverrideAdmin(ReadOnlyAdmin):
    list_display = (
        "tenant", "provider", "model", "discount_percent", "prices", "effective_from", "effective_to", "created_by",
    )  # fmt: skip
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), InForceFilter)
    search_fields = ("=tenant__slug", "=provider", "=model")
    ordering = ("-pk",)


@admin.register(PriceProposal)
class PriceProposalAdmin(ReadOnlyAdmin):
    """Prices that wait for an operator: approving one appends a row to the book."""

    list_display = (
        "model", "provider", "variant", "unit", "per_million", "effective_from", "source", "shown_state", "proposed_by",
    )  # fmt: skip
    list_filter = (("state", ChoicesDropdownFilter),)
    readonly_fields = ("per_million", "shown_state")
    search_fields = ("=provider", "=model", "=unit", "=proposed_by")
    ordering = ("-pk",)
    actions = ("approve", "reject")

    @display(description="USD a million")
    def per_million(self, proposal: PriceProposal) -> str:
        return pico_to_usd(rate_to_pico(proposal.price, field="price"), units=MILLION)

    @display(description="State", label={"proposed": "info", "approved": "success", "rejected": "plain"})
    def shown_state(self, proposal: PriceProposal) -> str:
        return proposal.state

    @admin.action(description="Approve: append to the price book", permissions=["operate"])
    def approve(self, request: HttpRequest, proposals: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self.confirmed(
            request,
            proposals,
            action="approve",
            question="Approve these prices?",
            consequence="Each is appended to the book and prices everybody's calls from its date on.",
            apply=lambda proposal: approve(proposal_id=proposal.pk, actor=operator(request), now=utc_now()),
        )

    @admin.action(description="Reject", permissions=["operate"])
    def reject(self, request: HttpRequest, proposals: QuerySet[PriceProposal]) -> HttpResponse | None:
        return self.confirmed(
            request,
            proposals,
            action="reject",
            question="Reject these prices?",
            consequence="The book stays as it is. A price may be proposed again.",
            apply=lambda proposal: reject(proposal_id=proposal.pk, actor=operator(request), now=utc_now()),
        )
