"""/v1/alerts: what happened that somebody wanted to hear of."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.domain.kinds import KINDS, Severity, kind_of
from alerts.models import Alert
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.filters import InstantFilter
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

# The kinds of today; later ones come without a change here, so the field itself names no choices.
KIND_NAMES = [(name, kind.title) for name, kind in KINDS.items()]
SEVERITIES = [(severity.value, severity.value) for severity in Severity]
EXAMPLE: dict[str, Any] = {
    "id": "alr_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "threshold",
    "severity": "warning",
    "title": "80 % of web is spent",
    "subject": "bud_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "details": {"budget_name": "web", "percent": 80, "spent": "8", "limit": "10", "metric": "usd"},
    "raised_at": "2026-11-22T12:00:00Z",
}


class AlertOut(Representation):
    """One alert."""

    id = WireIdField(ids.ALERT)
    kind = serializers.CharField(help_text="What kind of thing happened, such as `threshold`.")
    severity = serializers.ChoiceField(choices=SEVERITIES)
    title = serializers.SerializerMethodField(help_text="One line for people.")
    subject = serializers.CharField(help_text="What it is about: an id or a name.")
    details = serializers.DictField(help_text="What is known; amounts are decimal strings.")
    raised_at = TimeField()

    def get_title(self, alert: Alert) -> str:
        """The first line of its message."""
        return kind_of(alert.kind).text(alert.details).title


class AlertFilters(django_filters.FilterSet):
    """Filters of the list."""

    kind = django_filters.ChoiceFilter(choices=KIND_NAMES)
    severity = django_filters.ChoiceFilter(choices=SEVERITIES)
    subject = django_filters.CharFilter(max_length=300, help_text="Those about this id or name.")

    class Meta:
        model = Alert
        fields: ClassVar[list[str]] = ["kind", "severity", "subject"]


# `from` is a word of Python's own, so the pair is declared by name.
AlertFilters.base_filters["from"] = InstantFilter(
    field_name="raised_at", lookup_expr="gte", help_text="Raised then or later."
)
AlertFilters.base_filters["to"] = InstantFilter(
    field_name="raised_at", lookup_expr="lt", help_text="Raised before."
)


class Alerts(TenantView[Alert]):
    """Alerts of the tenant; those that only keep a lower threshold from being told are left out."""

    topic = Topic.ALERTS
    id_prefix = ids.ALERT
    queryset = Alert.objects.exclude(silent=True, kind="threshold")
    representation = AlertOut
    filterset_class = AlertFilters

    @extend_schema(
        operation_id="listAlerts",
        summary="List alerts",
        responses=AlertOut(many=True),
        examples=[OpenApiExample("One alert", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists alerts, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="getAlert",
        summary="Get an alert",
        responses=AlertOut,
        examples=[OpenApiExample("The alert", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one alert."""
        return self.answer(self.wanted(pk))
