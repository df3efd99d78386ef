"""/v1/presumed-approvals: presumed spending that somebody let be billed."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import PresumedApproval
from billing.queries.approvals import Presumed
from billing.services.approvals import HOLDS_MAX, REASON_CHARS_MAX, approve_presumed
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "pap_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "hold_id": "hold_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "placed_at": "2026-11-20T09:12:00Z",
    "cost_usd": "0.00048",
    "reason": "it is in the provider's invoice",
    "approved_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "approved_at": "2026-11-22T12:00:00Z",
}


class PresumedApprovalOut(Representation):
    """A presumed call that is billed until it is settled or voided after all."""

    id = WireIdField(ids.PRESUMED_APPROVAL)
    hold_id = WireIdField(ids.HOLD)
    customer = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    placed_at = TimeField()
    cost_usd = UsdField(source="cost_nano", help_text="What the call is presumed to have cost you.")
    reason = serializers.CharField()
    approved_by = serializers.CharField()
    approved_at = TimeField()


class PresumedApprovalIn(Strict):
    """Either one hold, or a customer's presumed calls of a time."""

    hold = WireIdField(ids.HOLD, required=False)
    customer = serializers.CharField(
        max_length=200, required=False, trim_whitespace=False, help_text="Your own id of it."
    )
    starts_at = TimeField(required=False, help_text="Calls whose holds were placed from then on.")
    ends_at = TimeField(required=False)
    reason = serializers.CharField(max_length=REASON_CHARS_MAX)


class ApprovedCalls(serializers.Serializer[Any]):
    """What was approved."""

    items = PresumedApprovalOut(many=True)
    cost_usd = UsdField(source="cost_nano")
    more = serializers.BooleanField(help_text=f"Whether others wait: {HOLDS_MAX} are approved at once.")


class ApprovalFilters(django_filters.FilterSet):
    """Filters of the list."""

    customer = django_filters.CharFilter(max_length=200)

    class Meta:
        model = PresumedApproval
        fields: ClassVar[list[str]] = ["customer"]


class PresumedApprovals(TenantView[PresumedApproval]):
    """Approvals of presumed spending."""

    topic = Topic.BILLING
    queryset = PresumedApproval.objects.all()
    representation = PresumedApprovalOut
    filterset_class = ApprovalFilters

    @extend_schema(
        operation_id="listPresumedApprovals",
        summary="List approved presumptions",
        responses=PresumedApprovalOut(many=True),
        examples=[OpenApiExample("One call", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists presumed calls that somebody let be billed, also those that were settled since, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="approvePresumed",
        summary="Let presumed spending be billed",
        request=PresumedApprovalIn,
        responses={201: ApprovedCalls},
        examples=[
            OpenApiExample(
                "A customer's calls of a day",
                value={
                    "customer": "acme",
                    "starts_at": "2026-11-20T00:00:00Z",
                    "ends_at": "2026-11-21T00:00:00Z",
                    "reason": "it is in the provider's invoice",
                },
                request_only=True,
            ),
            OpenApiExample(
                "One hold",
                value={
                    "hold": "hold_01jd2c8vq6f5k9s0m3w7x4y1z2",
                    "reason": "it is in the provider's invoice",
                },
                request_only=True,
            ),
            OpenApiExample(
                "What was approved",
                value={"items": [EXAMPLE], "cost_usd": "0.00048", "more": False},
                response_only=True,
            ),
        ],
    )
    def create(self, request: Request) -> Response:
        """Bills what nobody settled as it was presumed; a late settlement corrects it. The audit log says who and why."""
        values = self.read(PresumedApprovalIn)
        made = approve_presumed(
            wanted=Presumed(
                tenant_id=self.tenant_id,
                hold_id=values.get("hold"),
                customer=values.get("customer", ""),
                since=values.get("starts_at"),
                until=values.get("ends_at"),
            ),
            reason=values["reason"],
            actor=self.actor,
            now=self.now,
        )
        return Response(
            {
                "items": [self.shown(row) for row in made.approvals],
                "cost_usd": UsdField().to_representation(made.cost_nano),
                "more": made.more,
            },
            status=201,
        )
