"""What webhook endpoints and alert e-mails have in common: fields, filters, and the answers of their views."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.deliveries import DeliveryOut, Nothing
from alerts.domain.kinds import CHOICES
from alerts.models import Destination, DisabledBecause
from alerts.services.destinations import (
    DESCRIPTION_CHARACTERS_MAX,
    DestinationChanges,
    change_destination,
    ping_destination,
    remove_destination,
)
from noburn.kit import ids
from noburn.kit.rest.etags import etag_of
from noburn.kit.rest.fields import TimeField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

KINDS = [(name, name) for name in CHOICES]


class DestinationOut(Representation):
    """What every destination shows."""

    description = serializers.CharField()
    alert_kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=KINDS),
        help_text="The kinds of alert sent here; none: every kind.",
    )
    enabled = serializers.BooleanField()
    disabled_because = serializers.ChoiceField(
        choices=[("", "it is on"), *DisabledBecause.choices],
        help_text="`person`, `gone` (it answered 410), `failing` (nothing got through for days), or empty: it is on.",
    )
    failing_since = TimeField(
        allow_null=True, help_text="Since when nothing got through; null: the last one did."
    )
    created_at = TimeField()
    updated_at = TimeField()


class DestinationIn(Strict):
    """What every destination is made with."""

    description = serializers.CharField(
        max_length=DESCRIPTION_CHARACTERS_MAX, required=False, allow_blank=True, help_text="For people."
    )
    alert_kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=KINDS),
        max_length=len(KINDS),
        required=False,
        help_text="The kinds of alert to send here; none: every kind.",
    )


class DestinationChangesIn(DestinationIn):
    """What may change of every destination."""

    enabled = serializers.BooleanField(
        required=False, help_text="Switching it on again forgets its failures. What was waiting is not sent."
    )


class DestinationFilters(django_filters.FilterSet):
    """Filters of the lists."""

    enabled = django_filters.BooleanFilter(help_text="Those that are on, or off.")

    class Meta:
        model = Destination
        fields: ClassVar[list[str]] = ["enabled"]


class DestinationView(TenantView[Destination]):
    """What the two views do alike; each names its kinds and describes its operations."""

    topic = Topic.ALERTS
    target_field: ClassVar[str]
    """What the body calls the address."""

    def changed(self, pk: str, changes: dict[str, Any]) -> Response:
        """Changes a destination that is as the caller knows it."""
        found = self.wanted(pk)
        self.require_match(found)
        target = changes.pop(self.target_field, None)
        found = change_destination(
            tenant_id=self.tenant_id,
            destination_id=found.pk,
            changes=DestinationChanges(target=target, **changes),
            actor=self.actor,
            now=self.now,
        )
        return self.answer(found)

    def removed(self, pk: str) -> Response:
        """Removes a destination that is as the caller knows it."""
        found = self.wanted(pk)
        self.require_match(found)
        remove_destination(tenant_id=self.tenant_id, destination_id=found.pk, actor=self.actor, now=self.now)
        return Response(status=204)

    def pinged(self, request: Request, pk: str) -> Response:
        """Sends a test and answers with its delivery."""
        found = self.wanted(pk)
        self.read(Nothing)
        delivery = ping_destination(
            tenant_id=self.tenant_id, destination_id=found.pk, actor=self.actor, now=self.now
        )
        # Nothing was tried yet, so there is no history to read.
        delivery.newest_attempts = []  # type: ignore[attr-defined]
        body = self.shown(delivery, serializer=DeliveryOut)
        location = f"/v1/deliveries/{ids.encode(ids.DELIVERY, delivery.pk)}"
        return Response(body, status=201, headers={"ETag": etag_of(body), "Location": location})
