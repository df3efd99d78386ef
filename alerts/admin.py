"""The operators' view of alerts: what happened, who was told, what became of it. Secrets are never shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from alerts.models import Alert, Attempt, Delivery, Destination
from alerts.services.deliveries import DeliveryNotFound, replay
from noburn.kit.clock import utc_now
from tenants.admin.base import ReadOnlyAdmin, operator

ATTEMPTS_SHOWN = 50

SEVERITIES = {"info": "info", "warning": "warning", "critical": "danger"}
STATES = {"pending": "info", "delivered": "success", "failed": "danger", "cancelled": "warning"}


class WhoseFilter(admin.SimpleListFilter):
    """The installation's rows, which belong to no tenant, or tenants' own."""

    title = "whose"
    parameter_name = "whose"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("installation", "The installation's"), ("tenants", "Tenants'")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(tenant__isnull=self.value() == "installation")


class OwnedAdmin(ReadOnlyAdmin):
    """Rows of a tenant or of the installation."""

    list_select_related: Any = ("tenant",)

    @display(description="Tenant", ordering="tenant")
    def owner(self, row: Any) -> str:
        return str(row.tenant) if row.tenant_id else "the installation"


@admin.register(Alert)
class AlertAdmin(OwnedAdmin):
    list_display = ("raised_at", "owner", "kind", "shown_severity", "subject", "told")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        WhoseFilter,
        ("severity", ChoicesDropdownFilter),
        "silent",
    )
    search_fields = ("=kind", "=subject")
    search_help_text = "A kind or a subject, exactly as it is written."
    ordering = ("-pk",)

    @display(description="Severity", label=SEVERITIES, ordering="severity")
    def shown_severity(self, alert: Alert) -> str:
        return alert.severity

    @display(description="Told", label={"told": "plain", "only kept": "plain"}, ordering="silent")
    def told(self, alert: Alert) -> str:
        # A silent one keeps its key taken: a larger one of the same moment was told in its place.
        return "only kept" if alert.silent else "told"


@admin.register(Destination)
class DestinationAdmin(OwnedAdmin):
    list_display = ("address", "owner", "kind", "state", "failures", "updated_at")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        WhoseFilter,
        ("kind", ChoicesDropdownFilter),
        "enabled",
    )
    # Not the secrets, sealed as they are.
    fields = (
        "owner", "kind", "address", "description", "alert_kinds", "state", "disabled_because", "failures",
        "failing_since", "previous_secret_until", "version", "created_at", "updated_at", "removed_at",
    )  # fmt: skip
    readonly_fields = ("owner", "state")
    search_fields = ("=tenant__slug", "=address")
    ordering = ("-pk",)

    @display(description="State", label={"on": "success", "off": "warning", "removed": "plain"})
    def state(self, destination: Destination) -> str:
        if destination.removed_at is not None:
            return "removed"
        return "on" if destination.enabled else "off"


class AttemptInline(TabularInline):
    """What came of each attempt; an excerpt of the answer may hold what the other side put there."""

    model = Attempt
    fields = ("number", "started_at", "ended_at", "ok", "status", "ms", "error", "excerpt")
    ordering = ("-number",)
    extra = 0
    max_num = 0
    can_delete = False
    per_page = ATTEMPTS_SHOWN
    tab = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Delivery)
class DeliveryAdmin(OwnedAdmin):
    list_display = (
        "created_at",
        "owner",
        "alert",
        "destination",
        "shown_state",
        "attempts",
        "next_attempt_at",
    )
    list_select_related = ("tenant", "alert", "destination")
    list_filter = (
        ("tenant", AutocompleteSelectFilter),
        WhoseFilter,
        ("state", ChoicesDropdownFilter),
        ("destination", AutocompleteSelectFilter),
    )
    fields = (
        "owner", "alert", "destination", "shown_state", "attempts", "tries", "next_attempt_at", "created_at",
        "finished_at",
    )  # fmt: skip
    readonly_fields = ("owner", "shown_state")
    ordering = ("-pk",)
    inlines = (AttemptInline,)
    actions = ("send_again",)

    @display(description="State", label=STATES, ordering="state")
    def shown_state(self, delivery: Delivery) -> str:
        return delivery.state

    @admin.action(description="Send again", permissions=["operate"])
    def send_again(self, request: HttpRequest, deliveries: QuerySet[Delivery]) -> HttpResponse | None:
        return self.confirmed(
            request,
            deliveries.select_related("tenant", "alert", "destination"),
            action="send_again",
            question="Send these again?",
            consequence="Each is sent once more under the same webhook-id, so a receiver that had it already can tell.",
            apply=lambda delivery: replay(
                tenant_id=_tenant_of(delivery),
                delivery_id=delivery.pk,
                actor=operator(request),
                now=utc_now(),
            ),
        )


def _tenant_of(delivery: Delivery) -> UUID:
    if delivery.tenant_id is None:
        # Operators may not be told of trouble twice, and there is no tenant to write it down for.
        raise DeliveryNotFound("the installation's own deliveries are not sent again")
    return delivery.tenant_id
