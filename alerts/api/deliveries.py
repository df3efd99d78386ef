"""/v1/deliveries: what became of each message, attempt by attempt, and sending one again."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.alerts import KIND_NAMES
from alerts.api.filters import WireIdFilter
from alerts.models import Attempt, Delivery, DeliveryState
from alerts.services.deliveries import replay
from alerts.services.destinations import wire_id
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: dict[str, Any] = {
    "id": "dlv_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "alert": "alr_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "threshold",
    "destination": "whe_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "state": "delivered",
    "attempts": 1,
    "next_attempt_at": None,
    "created_at": "2026-11-22T12:00:00Z",
    "finished_at": "2026-11-22T12:00:01Z",
    "history": [
        {
            "number": 1,
            "started_at": "2026-11-22T12:00:00Z",
            "ended_at": "2026-11-22T12:00:01Z",
            "ok": True,
            "status": 204,
            "ms": 84,
            "error": "",
            "excerpt": "",
        }
    ],
}


class AttemptOut(Representation):
    """One attempt. Without an end it is under way, or what made it was killed."""

    number = serializers.IntegerField()
    started_at = TimeField()
    ended_at = TimeField(allow_null=True)
    ok = serializers.BooleanField()
    status = serializers.IntegerField(
        allow_null=True, help_text="What the other side answered: HTTP's or SMTP's code."
    )
    ms = serializers.IntegerField(allow_null=True, help_text="How long it took, in milliseconds.")
    error = serializers.CharField(help_text="What went wrong, in a few words.")
    excerpt = serializers.CharField(help_text="The first characters of a refusing answer's body.")


class DeliveryOut(Representation):
    """One alert for one destination. Its id is the `webhook-id`, the same in every attempt."""

    id = WireIdField(ids.DELIVERY)
    alert = WireIdField(ids.ALERT, source="alert_id")
    kind = serializers.CharField(source="alert.kind", help_text="The alert's kind.")
    destination = serializers.SerializerMethodField(
        help_text="A webhook endpoint (whe_…) or an address (eml_…)."
    )
    state = serializers.ChoiceField(choices=DeliveryState.choices)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.SerializerMethodField(
        help_text="When it is tried next; null once it has ended."
    )
    created_at = TimeField()
    finished_at = TimeField(allow_null=True)
    history = AttemptOut(many=True, source="newest_attempts", help_text="Its attempts, newest first.")

    def get_destination(self, delivery: Delivery) -> str:
        """The destination's id, which tells its kind as well."""
        return wire_id(delivery.destination)

    @extend_schema_field(TimeField(allow_null=True))
    def get_next_attempt_at(self, delivery: Delivery) -> str | None:
        """Nothing is planned for what has ended."""
        if delivery.state != DeliveryState.PENDING:
            return None
        return TimeField().to_representation(delivery.next_attempt_at)


class DeliveryFilters(django_filters.FilterSet):
    """Filters of the list."""

    state = django_filters.ChoiceFilter(choices=DeliveryState.choices)
    kind = django_filters.ChoiceFilter(field_name="alert__kind", choices=KIND_NAMES)
    destination = WireIdFilter(ids.WEBHOOK_ENDPOINT, ids.ALERT_EMAIL, field_name="destination_id")
    alert = WireIdFilter(ids.ALERT, field_name="alert_id")

    class Meta:
        model = Delivery
        fields: ClassVar[list[str]] = ["state", "kind", "destination", "alert"]


class Nothing(Strict):
    """A request without a body, or with an empty one."""


HISTORY = Prefetch("history", queryset=Attempt.objects.order_by("-number"), to_attr="newest_attempts")


class Deliveries(TenantView[Delivery]):
    """What became of telling alerts."""

    topic = Topic.ALERTS
    id_prefix = ids.DELIVERY
    queryset = Delivery.objects.select_related("alert", "destination").prefetch_related(HISTORY)
    representation = DeliveryOut
    filterset_class = DeliveryFilters

    @extend_schema(
        operation_id="listDeliveries",
        summary="List deliveries",
        responses=DeliveryOut(many=True),
        examples=[OpenApiExample("One delivery", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists deliveries of the last 90 days, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="getDelivery",
        summary="Get a delivery",
        responses=DeliveryOut,
        examples=[OpenApiExample("The delivery", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one delivery with its attempts."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="replayDelivery",
        summary="Send a delivery again",
        request=Nothing,
        responses=DeliveryOut,
        examples=[
            OpenApiExample("Nothing more to say", value={}, request_only=True),
            OpenApiExample(
                "The delivery, due at once",
                value={
                    **EXAMPLE,
                    "state": "pending",
                    "next_attempt_at": "2026-11-22T13:00:00Z",
                    "finished_at": None,
                },
                response_only=True,
            ),
        ],
    )
    @action(detail=True, methods=["post"], url_path="replay")
    def replay(self, request: Request, pk: str) -> Response:
        """Sends the same message under the same `webhook-id` again, whatever became of it before."""
        delivery = self.wanted(pk)
        self.read(Nothing)
        replay(tenant_id=self.tenant_id, delivery_id=delivery.pk, actor=self.actor, now=self.now)
        return self.answer(self.wanted(pk))
