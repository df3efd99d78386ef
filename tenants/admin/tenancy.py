"""Tenants, their projects, customers and users, and the keys they call with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.admin.base import ReadOnlyAdmin, operator
from tenants.models import ApiKey, Customer, EndUser, Project, Tenant
from tenants.services.customers import resume_customer, suspend_customer
from tenants.services.keys import revoke_key
from tenants.services.suspension import resume_tenant, suspend_tenant

STATES = {"live": "success", "suspended": "danger", "revoked": "danger", "expired": "warning"}


class SuspendedFilter(admin.SimpleListFilter):
    """Rows with or without a time in `field`."""

    title = "state"
    parameter_name = "suspended"
    field = "suspended_at"
    words = (("no", "Live"), ("yes", "Suspended"))

    def lookups(
        self,
        request: HttpRequest,
        model_admin: admin.ModelAdmin[Any],
    ) -> Sequence[tuple[str, str]]:
        return self.words

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(**{f"{self.field}__isnull": self.value() == "no"})


class RevokedFilter(SuspendedFilter):
    """Keys that were revoked, or not."""

    parameter_name = "revoked"
    field = "revoked_at"
    words = (("no", "Not revoked"), ("yes", "Revoked"))


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "name", "state", "time_zone", "unknown_model", "created_at")
    list_filter = (SuspendedFilter,)
    readonly_fields = ("wire_id",)
    search_fields = ("slug", "name")
    ordering = ("-pk",)
    actions = ("suspend", "resume")

    @display(description="State", label=STATES)
    def state(self, tenant: Tenant) -> str:
        return "suspended" if tenant.suspended_at else "live"

    @display(description="Wire id")
    def wire_id(self, tenant: Tenant) -> str:
        return ids.encode(ids.TENANT, tenant.pk)

    @admin.action(description="Suspend: refuse every further call", permissions=["operate"])
    def suspend(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse | None:
        return self.confirmed(
            request,
            tenants,
            action="suspend",
            question="Suspend these tenants?",
            consequence="Every further call of theirs is refused at once. What is in flight may settle.",
            apply=lambda tenant: suspend_tenant(tenant_id=tenant.pk, actor=operator(request), now=utc_now()),
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, tenants: QuerySet[Tenant]) -> HttpResponse | None:
        return self.confirmed(
            request,
            tenants,
            action="resume",
            question="Resume these tenants?",
            consequence="They may call again, within their budgets.",
            apply=lambda tenant: resume_tenant(tenant_id=tenant.pk, actor=operator(request), now=utc_now()),
        )


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("slug", "tenant", "name", "created_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("tenant__slug", "slug", "name")
    ordering = ("-pk",)


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin):
    list_display = ("external_id", "tenant", "name", "state", "created_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), SuspendedFilter)
    search_fields = ("=tenant__slug", "=external_id")
    search_help_text = "A tenant's slug or a customer's id, exactly."
    ordering = ("-pk",)
    actions = ("suspend", "resume")

    @display(description="State", label=STATES)
    def state(self, customer: Customer) -> str:
        return "suspended" if customer.suspended_at else "live"

    @admin.action(description="Suspend: refuse every further call", permissions=["operate"])
    def suspend(self, request: HttpRequest, customers: QuerySet[Customer]) -> HttpResponse | None:
        return self.confirmed(
            request,
            customers,
            action="suspend",
            question="Suspend these customers?",
            consequence="Every further call of theirs is refused at once. What is in flight may settle.",
            apply=lambda customer: suspend_customer(
                tenant_id=customer.tenant_id,
                external_id=customer.external_id,
                actor=operator(request),
                now=utc_now(),
            ),
        )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, customers: QuerySet[Customer]) -> HttpResponse | None:
        return self.confirmed(
            request,
            customers,
            action="resume",
            question="Resume these customers?",
            consequence="They may call again, within their budgets.",
            apply=lambda customer: resume_customer(
                tenant_id=customer.tenant_id,
                external_id=customer.external_id,
                actor=operator(request),
                now=utc_now(),
            ),
        )


@admin.register(EndUser)
class EndUserAdmin(ReadOnlyAdmin):
    list_display = ("external_id", "tenant", "customer", "created_at")
    list_select_related = ("tenant", "customer")
    list_filter = (("tenant", AutocompleteSelectFilter),)
    search_fields = ("=tenant__slug", "=external_id")
    search_help_text = "A tenant's slug or a user's id, exactly."
    ordering = ("-pk",)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "tenant", "shown", "scopes", "state", "expires_at", "last_used_at")
    list_select_related = ("tenant",)
    list_filter = (("tenant", AutocompleteSelectFilter), RevokedFilter)
    fields = (
        "tenant", "project", "name", "shown", "scopes", "state", "expires_at", "revoked_at", "last_used_at",
        "replaced_by", "created_at",
    )  # fmt: skip
    readonly_fields = ("shown", "state")
    search_fields = ("=tenant__slug", "name", "=last4")
    ordering = ("-pk",)
    actions = ("revoke",)

    @display(description="Key")
    def shown(self, key: ApiKey) -> str:
        return str(key)

    @display(description="State", label=STATES)
    def state(self, key: ApiKey) -> str:
        if key.revoked_at is not None:
            return "revoked"
        return "live" if key.is_live(utc_now()) else "expired"

    @admin.action(description="Revoke at once", permissions=["operate"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> HttpResponse | None:
        return self.confirmed(
            request,
            keys,
            action="revoke",
            question="Revoke these keys?",
            consequence="They place no call any more, at once and for ever. Settlements of what they placed still count.",
            apply=lambda key: revoke_key(
                tenant_id=key.tenant_id, key_id=key.pk, actor=operator(request), now=utc_now()
            ),
        )
