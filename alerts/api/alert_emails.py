"""/v1/alert-emails: addresses that alerts are sent to."""

from __future__ import annotations

from typing import Any

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
from alerts.services.destinations import NewDestination, create_destination
from noburn.kit import ids
from noburn.kit.rest.fields import WireIdField
from noburn.kit.rest.serializers import Representation

EXAMPLE: dict[str, Any] = {
    "id": "eml_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "email": "finance@example.com",
    "description": "",
    "alert_kinds": [],
    "enabled": True,
    "disabled_because": "",
    "failing_since": None,
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:00Z",
}


class _Head(Representation):
    """What stands first in an answer."""

    id = WireIdField(ids.ALERT_EMAIL)
    email = serializers.CharField(source="address")


class AlertEmailOut(_Head, DestinationOut):
    """An address that hears of alerts."""


class AlertEmailIn(DestinationIn):
    """An address to be told."""

    email = serializers.CharField(max_length=254)


class AlertEmailChanges(DestinationChangesIn):
    """What may change of an address."""

    email = serializers.CharField(max_length=254, required=False)


class AlertEmails(DestinationView):
    """Addresses of the tenant that hear of alerts."""

    id_prefix = ids.ALERT_EMAIL
    target_field = "email"
    queryset = Destination.objects.filter(kind=DestinationKind.EMAIL, removed_at=None)
    representation = AlertEmailOut
    filterset_class = DestinationFilters

    @extend_schema(
        operation_id="listAlertEmails",
        summary="List alert e-mails",
        responses=AlertEmailOut(many=True),
        examples=[OpenApiExample("One address", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists addresses."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createAlertEmail",
        summary="Add an alert e-mail",
        request=AlertEmailIn,
        responses={201: AlertEmailOut},
        examples=[
            OpenApiExample(
                "An address for everything", value={"email": "finance@example.com"}, request_only=True
            ),
            OpenApiExample("The address", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Adds an address; it hears of alerts from now on."""
        wanted = self.read(AlertEmailIn)
        made = create_destination(
            tenant_id=self.tenant_id,
            destination=NewDestination(
                kind=DestinationKind.EMAIL.value, target=wanted.pop("email"), **wanted
            ),
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made.destination, 201)

    @extend_schema(
        operation_id="getAlertEmail",
        summary="Get an alert e-mail",
        responses=AlertEmailOut,
        examples=[OpenApiExample("The address", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one address."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateAlertEmail",
        summary="Change an alert e-mail",
        request=AlertEmailChanges,
        responses=AlertEmailOut,
        examples=[
            OpenApiExample("Only thresholds", value={"alert_kinds": ["threshold"]}, request_only=True),
            OpenApiExample(
                "The address", value={**EXAMPLE, "alert_kinds": ["threshold"]}, response_only=True
            ),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Changes what is named and leaves the rest."""
        return self.changed(pk, self.read(AlertEmailChanges))

    @extend_schema(operation_id="deleteAlertEmail", summary="Remove an alert e-mail", responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Removes an address; what waits for it is not sent."""
        return self.removed(pk)

    @extend_schema(
        operation_id="pingAlertEmail",
        summary="Send a test",
        request=Nothing,
        responses={201: DeliveryOut},
        examples=[
            OpenApiExample("Nothing more to say", value={}, request_only=True),
            OpenApiExample(
                "The delivery",
                value={**DELIVERY, "kind": "ping", "destination": EXAMPLE["id"]},
                response_only=True,
            ),
        ],
    )
    @action(detail=True, methods=["post"])
    def ping(self, request: Request, pk: str) -> Response:
        """Sends a test to this address alone; ask for the delivery to see what became of it."""
        return self.pinged(request, pk)
