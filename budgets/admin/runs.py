"""Runs of agents and guards, as operators see them."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from budgets.admin.shown import amount
from budgets.models import Guard, Run
from tenants.admin.base import ReadOnlyAdmin


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = (
        "run",
        "tenant",
        "state",
        "shown_cap",
        "cap_steps",
        "started_at",
        "last_seen_at",
        "closed_at",
    )
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), ("state", ChoicesDropdownFilter))
    search_fields = ("=tenant__slug", "=run", "=parent", "=customer")
    exclude = ("digest",)
    ordering = ("-pk",)

    @display(description="Cap", ordering="cap_nano")
    def shown_cap(self, run: Run) -> str:
        return "" if run.cap_nano is None else amount("usd", run.cap_nano)


@admin.register(Guard)
class GuardAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "kind", "mode", "scope", "subject", "archived_at")
    list_select_related = ("tenant",)
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        ("kind", ChoicesDropdownFilter),
        ("mode", ChoicesDropdownFilter),
    )
    search_fields = ("=tenant__slug", "name", "=subject")
    ordering = ("-pk",)
