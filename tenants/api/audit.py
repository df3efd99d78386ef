"""/v1/audit: who changed what."""

from __future__ import annotations

from typing import ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.filters import InstantFilter
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import AuditEntry

EXAMPLE = {
    "id": "aud_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "at": "2026-11-22T12:00:00Z",
    "actor": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "action": "budget.edit",
    "object": "bud_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "before": {"limit_usd": "10"},
    "after": {"limit_usd": "20"},
}


class AuditEntryOut(Representation):
    """One change."""

    id = WireIdField(ids.AUDIT_ENTRY)
    at = TimeField()
    actor = serializers.CharField(
        help_text="`user:mem_…`, `key:key_…`, `operator:…`, `command:…` or `system`."
    )
    action = serializers.CharField(help_text="`topic.verb`.")
    object = serializers.CharField(help_text="The id of what changed.")
    before = serializers.DictField(allow_null=True, help_text="Its fields before; null where it was made.")
    after = serializers.DictField(allow_null=True, help_text="Its fields after; null where it went.")


class AuditFilters(django_filters.FilterSet):
    """Filters of the list."""

    actor = django_filters.CharFilter(max_length=200)
    action = django_filters.CharFilter(max_length=64)
    object = django_filters.CharFilter(max_length=300)

    class Meta:
        model = AuditEntry
        fields: ClassVar[list[str]] = ["actor", "action", "object"]


# `from` is a word of Python's own, so the pair is declared by name.
AuditFilters.base_filters["from"] = InstantFilter(field_name="at", lookup_expr="gte")
AuditFilters.base_filters["to"] = InstantFilter(field_name="at", lookup_expr="lt")


class Audit(TenantView[AuditEntry]):
    """The audit log, which nobody alters."""

    topic = Topic.AUDIT
    id_prefix = ids.AUDIT_ENTRY
    queryset = AuditEntry.objects.all()
    representation = AuditEntryOut
    filterset_class = AuditFilters

    @extend_schema(
        operation_id="listAuditEntries",
        summary="List changes",
        responses=AuditEntryOut(many=True),
        examples=[OpenApiExample("A raised limit", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists changes of the tenant's things, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="getAuditEntry",
        summary="Get a change",
        responses=AuditEntryOut,
        examples=[OpenApiExample("A raised limit", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one change."""
        return self.answer(self.wanted(pk))
