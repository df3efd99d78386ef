"""/v1/tenant: the caller's own tenant and its settings."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Tenant, UnknownModel
from tenants.services.tenant_settings import TenantSettings, change_settings

EXAMPLE = {
    "id": "ten_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "slug": "acme",
    "name": "Acme",
    "time_zone": "Europe/Berlin",
    "default_max_output_tokens": 4096,
    "unknown_model": "refuse",
    "subject_limit": 1000000,
    "decision_retention_days": 30,
    "second_factor_required": False,
    "suspended_at": None,
    "created_at": "2026-11-22T12:00:00Z",
}


class TenantOut(Representation):
    """A tenant."""

    id = WireIdField(ids.TENANT)
    slug = serializers.CharField()
    name = serializers.CharField()
    time_zone = serializers.CharField(help_text="IANA zone in which days, weeks and months begin.")
    default_max_output_tokens = serializers.IntegerField(help_text="The output cap of calls that name none.")
    unknown_model = serializers.ChoiceField(choices=UnknownModel.choices)
    subject_limit = serializers.IntegerField(help_text="The most customers and users, set by the operator.")
    decision_retention_days = serializers.IntegerField()
    second_factor_required = serializers.BooleanField(
        help_text="Whether members see and change nothing before they have a second factor. API keys are not concerned."
    )
    suspended_at = TimeField(allow_null=True)
    created_at = TimeField()


class TenantChanges(Strict):
    """What can change of a tenant."""

    name = serializers.CharField(max_length=200, required=False)
    time_zone = serializers.CharField(max_length=64, required=False)
    default_max_output_tokens = serializers.IntegerField(min_value=1, max_value=10_000_000, required=False)
    unknown_model = serializers.ChoiceField(choices=UnknownModel.choices, required=False)
    decision_retention_days = serializers.IntegerField(min_value=1, max_value=400, required=False)
    second_factor_required = serializers.BooleanField(
        required=False, help_text="Only an owner with a second factor sets it; no API key does."
    )


class OwnTenant(TenantView[Tenant]):
    """The tenant that asks."""

    topic = Topic.TENANT
    queryset = Tenant.objects.all()
    representation = TenantOut

    def rows(self) -> QuerySet[Tenant]:
        """The one row."""
        return Tenant.objects.filter(pk=self.tenant_id)

    @extend_schema(
        operation_id="getTenant",
        summary="Get the tenant",
        responses=TenantOut,
        examples=[OpenApiExample("The tenant", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request) -> Response:
        """Returns the tenant that the key or the session belongs to."""
        return self.answer(self.rows().get())

    @extend_schema(
        operation_id="updateTenant",
        summary="Change the tenant's settings",
        request=TenantChanges,
        responses=TenantOut,
        examples=[
            OpenApiExample(
                "Unknown models at the dearest price", value={"unknown_model": "dearest"}, request_only=True
            ),
            OpenApiExample("The tenant", value={**EXAMPLE, "unknown_model": "dearest"}, response_only=True),
        ],
    )
    def partial_update(self, request: Request) -> Response:
        """Changes settings; calls follow them at once."""
        self.require_match(self.rows().get())
        changes = TenantSettings(**self.read(TenantChanges))
        return self.answer(
            change_settings(
                tenant_id=self.tenant_id,
                changes=changes,
                owner=self.access.owner,
                actor=self.actor,
                now=self.now,
            )
        )
