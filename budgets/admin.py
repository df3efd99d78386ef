"""The operators' view of budgets: to look things up. Changes go through the services, which audit and publish."""

from __future__ import annotations

from django.contrib import admin

from budgets.models import Budget, BudgetOverride, PolicySnapshot
from tenants.admin import ReadOnlyAdmin


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    list_display = (
        "tenant",
        "name",
        "scope",
        "subject",
        "metric",
        "limit",
        "window",
        "action",
        "archived_at",
    )
    list_select_related = ("tenant",)
    list_filter = ("scope", "metric", "window", "action")
    search_fields = ("tenant__slug", "name", "subject")
    ordering = ("-created_at", "pk")


@admin.register(BudgetOverride)
class BudgetOverrideAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "budget", "subject", "limit", "updated_at")
    list_select_related = ("tenant", "budget")
    search_fields = ("tenant__slug", "subject")
    ordering = ("-updated_at", "pk")


@admin.register(PolicySnapshot)
class PolicySnapshotAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "version", "compiled_at")
    list_select_related = ("tenant",)
    # The body holds the keys' digests.
    exclude = ("body",)
    search_fields = ("tenant__slug",)
    ordering = ("tenant_id",)
