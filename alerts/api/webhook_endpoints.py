"""/v1/webhook-endpoints: URLs that alerts are sent to, signed webhooks and Slack-compatible ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.deliveries import EXAMPLE as DELIVERY
from alerts.api.deliveries import DeliveryOut, Nothing
from alerts.api.destinations import (
    DestinationChangesIn,
    DestinationFilters,
    DestinationIn,
    DestinationOut,
    DestinationView,
)
from alerts.models import Destination, DestinationKind
from alerts.services.destinations import (
    OVERLAP_DEFAULT,
    OVERLAP_MAX,
    MadeDestination,
    NewDestination,
    create_destination,
    rotate_secret,
)
from noburn.kit import ids
from noburn.kit.outgoing import URL_LENGTH_MAX
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict

KINDS = [
    (DestinationKind.WEBHOOK.value, "signed by the Standard Webhooks rules"),
    (DestinationKind.SLACK.value, "as Slack and its look-alikes read"),
]
EXAMPLE: dict[str, Any] = {
    "id": "whe_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "webhook",
    "url": "https://hooks.example.com/noburn",
    "previous_secret_until": None,
    "description": "on call",
    "alert_kinds": ["threshold"],
    "enabled": True,
    "disabled_because": "",
    "failing_since": None,
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:00Z",
}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 (an example in the document)
WITH_SECRET = {**EXAMPLE, "secret": SECRET}
ROTATED = {**WITH_SECRET, "previous_secret_until": "2026-11-23T12:00:00Z"}


class _Head(Representation):
    """What stands first in an answer."""

    id = WireIdField(ids.WEBHOOK_ENDPOINT)
    kind = serializers.ChoiceField(choices=KINDS)
    url = serializers.CharField(
        source="address", help_text="Of a Slack URL, which is a secret itself, the host and the last letters."
    )
    previous_secret_until = TimeField(
        allow_null=True, help_text="Until when the secret before the last rotation signs as well."
    )


class WebhookEndpointOut(_Head, DestinationOut):
    """A webhook endpoint without its secret."""


class WebhookEndpointMade(WebhookEndpointOut):
    """A webhook endpoint with the secret that was made for it."""

    secret = serializers.CharField(
        allow_null=True,
        help_text="Signs what is sent. Shown once; null for Slack, and where the same request is repeated.",
    )


class WebhookEndpointIn(DestinationIn):
    """An endpoint to be made."""

    kind = serializers.ChoiceField(choices=KINDS, default=DestinationKind.WEBHOOK.value)
    url = serializers.CharField(max_length=URL_LENGTH_MAX, help_text="https, of a public host.")


class WebhookEndpointChanges(DestinationChangesIn):
    """What may change of an endpoint; its kind stays."""

    url = serializers.CharField(max_length=URL_LENGTH_MAX, required=False)


class SecretRotation(Strict):
    """How a secret is replaced."""

    overlap_seconds = serializers.IntegerField(
        min_value=0,
        max_value=int(OVERLAP_MAX.total_seconds()),
        default=int(OVERLAP_DEFAULT.total_seconds()),
        help_text="For how long both secrets sign.",
    )


class WebhookEndpointFilters(DestinationFilters):
    """Filters of the list."""

    kind = django_filters.ChoiceFilter(choices=KINDS)

    class Meta:
        model = Destination
        fields: ClassVar[list[str]] = ["enabled", "kind"]


class WebhookEndpoints(DestinationView):
    """Webhook endpoints of the tenant."""

    id_prefix = ids.WEBHOOK_ENDPOINT
    target_field = "url"
    queryset = Destination.objects.filter(kind__in=[kind for kind, _ in KINDS], removed_at=None)
    representation = WebhookEndpointOut
    filterset_class = WebhookEndpointFilters

    @extend_schema(
        operation_id="listWebhookEndpoints",
        summary="List webhook endpoints",
        responses=WebhookEndpointOut(many=True),
        examples=[OpenApiExample("One endpoint", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists endpoints, without their secrets."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createWebhookEndpoint",
        summary="Create a webhook endpoint",
        request=WebhookEndpointIn,
        responses={201: WebhookEndpointMade},
        examples=[
            OpenApiExample(
                "A signed webhook",
                value={"url": "https://hooks.example.com/noburn", "alert_kinds": ["threshold"]},
                request_only=True,
            ),
            OpenApiExample("The endpoint and its secret", value=WITH_SECRET, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Creates an endpoint; its secret is in this answer alone. Private and local addresses are refused."""
        wanted = self.read(WebhookEndpointIn)
        made = create_destination(
            tenant_id=self.tenant_id,
            destination=NewDestination(target=wanted.pop("url"), **wanted),
            actor=self.actor,
            now=self.now,
        )
        return self._with_secret(made)

    @extend_schema(
        operation_id="getWebhookEndpoint",
        summary="Get a webhook endpoint",
        responses=WebhookEndpointOut,
        examples=[OpenApiExample("The endpoint", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one endpoint, without its secret."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateWebhookEndpoint",
        summary="Change a webhook endpoint",
        request=WebhookEndpointChanges,
        responses=WebhookEndpointOut,
        examples=[
            OpenApiExample("Switch it on again", value={"enabled": True}, request_only=True),
            OpenApiExample("The endpoint", value=EXAMPLE, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes what is named and leaves the rest."""
        return self.changed(pk, self.read(WebhookEndpointChanges))

    @extend_schema(
        operation_id="deleteWebhookEndpoint", summary="Remove a webhook endpoint", responses={204: None}
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Removes an endpoint and forgets its secrets; what waits for it is not sent."""
        return self.removed(pk)

    @extend_schema(
        operation_id="rotateWebhookSecret",
        summary="Rotate a webhook's secret",
        request=SecretRotation,
        responses={201: WebhookEndpointMade},
        examples=[
            OpenApiExample("A day for the change", value={"overlap_seconds": 86400}, request_only=True),
            OpenApiExample("The endpoint and its new secret", value=ROTATED, response_only=True),
        ],
    )
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, request: Request, pk: str) -> Response:
        """Makes the next secret; until the overlap is over both sign, and a receiver may check either."""
        found = self.wanted(pk)
        overlap = timedelta(seconds=self.read(SecretRotation)["overlap_seconds"])
        made = rotate_secret(
            tenant_id=self.tenant_id,
            destination_id=found.pk,
            overlap=overlap,
            actor=self.actor,
            now=self.now,
        )
        return self._with_secret(made)

    @extend_schema(
        operation_id="pingWebhookEndpoint",
        summary="Send a test",
        request=Nothing,
        responses={201: DeliveryOut},
        examples=[
            OpenApiExample("Nothing more to say", value={}, request_only=True),
            OpenApiExample("The delivery", value={**DELIVERY, "kind": "ping"}, response_only=True),
        ],
    )
    @action(detail=True, methods=["post"])
    def ping(self, request: Request, pk: str) -> Response:
        """Sends a test to this endpoint alone; ask for the delivery to see what became of it."""
        return self.pinged(request, pk)

    def _with_secret(self, made: MadeDestination) -> Response:
        response = self.answer(made.destination, 201)
        # What is kept for a repeat of this request never holds the secret.
        response.kept_body = {**response.data, "secret": None}  # type: ignore[attr-defined]
        response.data = {**response.data, "secret": made.secret or None}
        return response
