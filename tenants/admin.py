"""The operators' view of tenancy: to look things up. Changes go through the services, which audit and publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from noburn.kit.clock import utc_now
from tenants.models import ApiKey, AuditEntry, Customer, EndUser, Member, Project, Tenant, User
from tenants.services.customers import resume_customer, suspend_customer
from tenants.services.keys import revoke_key


def _operator(request: HttpRequest) -> str:
    return f"operator:{request.user.pk}"


if TYPE_CHECKING:
    AnyModelAdmin = admin.ModelAdmin[Any]
else:  # Django's own class takes no parameter when the program runs.
    AnyModelAdmin = admin.ModelAdmin


class ReadOnlyAdmin(AnyModelAdmin):
    """Shows rows and changes none: a row saved here would bypass audit log, policy and version."""

    list_per_page = 50
    # Counting a large table for a page's footer would be its slowest query.
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Tells whether the operator may run this table's actions, each of which calls a service."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "name", "time_zone", "unknown_model", "suspended_at", "created_at")
    search_fields = ("slug", "name")
    ordering = ("slug", "pk")


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "is_staff", "created_at")
    exclude = ("password",)
    search_fields = ("email", "name")
    ordering = ("email", "pk")


@admin.register(Member)
class MemberAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "user", "role", "created_at")
    list_select_related = ("tenant", "user")
    search_fields = ("tenant__slug", "user__email")
    ordering = ("tenant_id", "pk")


@admin.register(Project)
class ProjectAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "slug", "name", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "slug", "name")
    ordering = ("tenant_id", "slug", "pk")


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "external_id", "name", "suspended_at", "created_at")
    list_select_related = ("tenant",)
    search_fields = ("tenant__slug", "external_id", "name")
    ordering = ("-created_at", "pk")
    actions = ("suspend", "resume")

    @admin.action(description="Suspend: refuse every further call", permissions=["operate"])
    def suspend(self, request: HttpRequest, customers: QuerySet[Customer]) -> None:
        for customer in customers.order_by("tenant_id", "pk"):
            suspend_customer(
                tenant_id=customer.tenant_id,
                external_id=customer.external_id,
                actor=_operator(request),
                now=utc_now(),
            )

    @admin.action(description="Resume", permissions=["operate"])
    def resume(self, request: HttpRequest, customers: QuerySet[Customer]) -> None:
        for customer in customers.order_by("tenant_id", "pk"):
            resume_customer(
                tenant_id=customer.tenant_id,
                external_id=customer.external_id,
                actor=_operator(request),
                now=utc_now(),
            )


@admin.register(EndUser)
class EndUserAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "external_id", "customer", "created_at")
    list_select_related = ("tenant", "customer")
    search_fields = ("tenant__slug", "external_id")
    ordering = ("-created_at", "pk")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "name", "prefix", "last4", "scopes", "expires_at", "revoked_at", "last_used_at")
    list_select_related = ("tenant",)
    exclude = ("digest",)
    search_fields = ("tenant__slug", "name", "prefix", "last4")
    ordering = ("-created_at", "pk")
    actions = ("revoke",)

    @admin.action(description="Revoke at once", permissions=["operate"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        for key in keys.order_by("tenant_id", "pk"):
            revoke_key(tenant_id=key.tenant_id, key_id=key.pk, actor=_operator(request), now=utc_now())


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "tenant", "actor", "action", "object")
    list_select_related = ("tenant",)
    list_filter = ("action",)
    search_fields = ("tenant__slug", "actor", "object")
    ordering = ("-at", "-pk")
