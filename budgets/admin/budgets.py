"""Budgets, overrides for single subjects, and the policies that gateways hold."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from budgets.admin.shown import amount, link
from budgets.models import Budget, BudgetIncrease, BudgetOverride, LearnedEstimate, PolicySnapshot
from noburn.kit import ids
from tenants.admin.base import ReadOnlyAdmin


class ArchivedFilter(admin.SimpleListFilter):
    """Live budgets unless one asks for others: archived ones only grow in number."""

    title = "state"
    parameter_name = "archived"

    def lookups(self, request: Any, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "Live"), ("yes", "Archived")]

    def queryset(self, request: Any, queryset: Any) -> Any:
        if self.value() is None:
            return queryset
        return queryset.filter(archived_at__isnull=self.value() == "no")


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "scope", "subject", "shown_limit", "window", "action", "state")
    list_select_related = ("tenant",)
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ArchivedFilter,
        ("scope", ChoicesDropdownFilter),
        ("metric", ChoicesDropdownFilter),
        ("window", ChoicesDropdownFilter),
        ("action", ChoicesDropdownFilter),
    )
    fields = (
        "tenant", "name", "wire_id", "counters", "version", "scope", "subject", "tag", "metric", "shown_limit", "window",
        "anchor_day", "time_zone", "action", "estimate", "on_expiry", "on_epoch_close", "thresholds", "plan",
        "upgrade_to", "effective_at", "archived_at", "created_at",
    )  # fmt: skip
    readonly_fields = ("wire_id", "shown_limit", "counters")
    search_fields = ("=tenant__slug", "name", "=subject")
    ordering = ("-pk",)

    @display(description="Limit", ordering="limit")
    def shown_limit(self, budget: Budget) -> str:
        return amount(budget.metric, budget.limit)

    @display(description="State", label={"live": "success", "archived": "plain"})
    def state(self, budget: Budget) -> str:
        return "archived" if budget.archived_at else "live"

    @display(description="Wire id")
    def wire_id(self, budget: Budget) -> str:
        return ids.encode(ids.BUDGET, budget.pk)

    @display(description="Counters")
    def counters(self, budget: Budget) -> SafeString:
        return link(
            reverse("money:counters") + "?" + urlencode({"budget": ids.encode(ids.BUDGET, budget.pk)}),
            "of this budget",
        )


@admin.register(BudgetOverride)
class BudgetOverrideAdmin(ReadOnlyAdmin):
    list_display = ("subject", "tenant", "budget", "shown_limit", "version", "updated_at")
    list_select_related = ("tenant", "budget")
    list_filter = (("tenant", AutocompleteSelectFilter), ("budget", AutocompleteSelectFilter))
    fields = ("tenant", "budget", "subject", "shown_limit", "version", "updated_at")
    readonly_fields = ("shown_limit",)
    search_fields = ("=tenant__slug", "=subject")
    ordering = ("-pk",)

    @display(description="Limit")
    def shown_limit(self, override: BudgetOverride) -> str:
        return amount(override.budget.metric, override.limit)


@admin.register(BudgetIncrease)
class BudgetIncreaseAdmin(ReadOnlyAdmin):
    list_display = (
        "budget",
        "tenant",
        "subject",
        "shown_amount",
        "starts_at",
        "ends_at",
        "shown_state",
        "created_by",
    )
    list_select_related = ("tenant", "budget")
    list_filter = (("tenant", AutocompleteSelectFilter), ("budget", AutocompleteSelectFilter))
    fields = (
        "tenant", "budget", "subject", "shown_amount", "shown_state", "starts_at", "ends_at", "reason", "created_by",
        "created_at", "started_at", "ended_at", "cancelled_at", "cancelled_by",
    )  # fmt: skip
    readonly_fields = ("shown_amount", "shown_state")
    search_fields = ("=tenant__slug", "=subject", "=created_by")
    ordering = ("-pk",)

    @display(description="So much more")
    def shown_amount(self, increase: BudgetIncrease) -> str:
        return amount(increase.budget.metric, increase.amount)

    @display(description="State")
    def shown_state(self, increase: BudgetIncrease) -> str:
        return increase.state


@admin.register(PolicySnapshot)
class PolicySnapshotAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "version", "compiled_at")
    list_select_related = ("tenant",)
    # The body holds the keys' digests.
    fields = ("tenant", "version", "compiled_at")
    search_fields = ("=tenant__slug",)
    ordering = ("-pk",)


@admin.register(LearnedEstimate)
class LearnedEstimateAdmin(ReadOnlyAdmin):
    """What settled calls taught, for tenants with budgets that go by it."""

    list_display = ("tenant", "provider", "model", "samples", "input_ppm", "output_tokens", "learned_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("=tenant__slug", "=provider", "=model")
    ordering = ("-pk",)
