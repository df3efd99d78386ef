"""The price book: providers, models, and the dated rows. Appended by services, edited by nobody."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter, RangeDateTimeFilter
from unfold.decorators import display

from budgets.models import PriceImport, PriceModel, PriceOverride, PriceProposal, PriceProvider, PriceRow
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
    list_display = ("model", "provider", "context_window", "offered", "deprecated", "position")
    list_select_related = ("provider",)
    list_filter = (("provider", AutocompleteSelectFilter), "offered", "deprecated")
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


def _million(price: Decimal | None) -> str:
    """USD for a million units, or a dash where a source says nothing."""
    return "-" if price is None else pico_to_usd(rate_to_pico(price, field="price"), units=MILLION)


class FromImportFilter(admin.SimpleListFilter):
    """What an import laid before the operators, or what a person did."""

    title = "from"
    parameter_name = "from"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [("sources", "Sources that disagree"), ("import", "Any import"), ("person", "A person")]

    def queryset(self, request: Any, queryset: Any) -> Any:
        match self.value():
            case "sources":
                return queryset.filter(genai_price__isnull=False, litellm_price__isnull=False)
            case "import":
                return queryset.filter(genai_price__isnull=False)
            case "person":
                return queryset.filter(genai_price__isnull=True)
            case _:
                return queryset


@admin.register(PriceImport)
class PriceImportAdmin(ReadOnlyAdmin):
    """Which sources were read, when, and what came of it."""

    list_display = ("ran_at", "sources", "actor", "appended", "proposed")
    list_filter = (("ran_at", RangeDateTimeFilter),)
    ordering = ("-ran_at", "-pk")

    @display(description="Appended")
    def appended(self, done: PriceImport) -> int:
        return int(done.found.get("appended", 0))

    @display(description="Proposed")
    def proposed(self, done: PriceImport) -> int:
        return int(done.found.get("proposed", 0))


@admin.register(PriceProposal)
class PriceProposalAdmin(ReadOnlyAdmin):
    """Prices that wait for an operator: approving one appends a row to the book."""

    list_display = (
        "model", "provider", "variant", "unit", "per_million", "in_the_book", "by_genai", "by_litellm",
        "effective_from", "source", "shown_state", "proposed_by",
    )  # fmt: skip
    list_filter = (("state", ChoicesDropdownFilter), FromImportFilter)
    readonly_fields = ("per_million", "in_the_book", "by_genai", "by_litellm", "shown_state")
    search_fields = ("=provider", "=model", "=unit", "=proposed_by")
    search_help_text = "Exactly a provider, model, unit or who proposed it."
    ordering = ("-pk",)
    actions = ("approve", "reject")

    @display(description="USD a million")
    def per_million(self, proposal: PriceProposal) -> str:
        return _million(proposal.price)

    @display(description="In the book")
    def in_the_book(self, proposal: PriceProposal) -> str:
        return _million(proposal.book_price)

    @display(description="genai-prices")
    def by_genai(self, proposal: PriceProposal) -> str:
        return _million(proposal.genai_price)

    @display(description="LiteLLM")
    def by_litellm(self, proposal: PriceProposal) -> str:
        return _million(proposal.litellm_price)

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
