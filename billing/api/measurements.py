"""/v1/measurements: what Stripe is told about use, and what became of it."""

from __future__ import annotations

from typing import ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.deliveries import Nothing
from billing.models import Measurement, MeasurementKind, MeasurementState
from billing.services.measurements import reissue
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "msr_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "kind": "usage",
    "period_starts_at": "2026-11-01T00:00:00Z",
    "carried_from": None,
    "window_starts_at": "2026-11-22T11:00:00Z",
    "seq": 0,
    "key": "nb:live:ten_01jd2c8vq6f5k9s0m3w7x4y1z2:cus_01jd2c8vq6f5k9s0m3w7x4y1z2:usage:2026112211:0",
    "amount_usd": "1.25",
    "at": "2026-11-22T11:59:00Z",
    "stripe_customer": "cus_Qabcdefgh",
    "state": "delivered",
    "outcome": "taken",
    "error": None,
    "tries": 1,
    "first_sent_at": "2026-11-22T12:20:03Z",
    "finished_at": "2026-11-22T12:20:03Z",
    "created_at": "2026-11-22T12:20:01Z",
}


class MeasurementOut(Representation):
    """A measurement. What it says never changes; what became of it does."""

    id = WireIdField(ids.MEASUREMENT)
    customer = serializers.CharField(source="customer.external_id")
    kind = serializers.ChoiceField(
        choices=MeasurementKind.values,
        help_text="`carry`: owed for an earlier period, whose invoice was final already.",
    )
    period_starts_at = TimeField(source="period.starts_at", help_text="The period on whose invoice it goes.")
    carried_from = serializers.SerializerMethodField(help_text="When the period began that it is owed for.")
    window_starts_at = TimeField(help_text="The hour that it was written for.")
    seq = serializers.IntegerField(help_text="0 is the hour's own, others came later.")
    key = serializers.CharField(help_text="Its identifier and idempotency key at Stripe.")
    amount_usd = serializers.SerializerMethodField(help_text="Negative: less is owed than was told.")
    at = TimeField(help_text="When it happened, as Stripe is told.")
    stripe_customer = serializers.CharField()
    state = serializers.ChoiceField(choices=MeasurementState.values)
    outcome = serializers.SerializerMethodField(help_text="How it came to that.")
    error = serializers.SerializerMethodField()
    tries = serializers.IntegerField()
    first_sent_at = TimeField(allow_null=True)
    finished_at = TimeField(allow_null=True)
    created_at = TimeField()

    def get_carried_from(self, row: Measurement) -> str | None:
        """None, for use of its own period."""
        if row.carried_from is None:
            return None
        return TimeField().to_representation(row.carried_from.starts_at)

    def get_amount_usd(self, row: Measurement) -> str:
        """Whole micro-USD."""
        return to_usd(row.value_micro * 1000)

    def get_outcome(self, row: Measurement) -> str | None:
        """None, while it is under way."""
        return row.outcome or None

    def get_error(self, row: Measurement) -> str | None:
        """None, when all went well."""
        return row.error or None


class MeasurementFilters(django_filters.FilterSet):
    """Filters of the list."""

    state = django_filters.ChoiceFilter(choices=MeasurementState.choices)
    kind = django_filters.ChoiceFilter(choices=MeasurementKind.choices)
    customer = django_filters.CharFilter(field_name="customer__external_id", max_length=200)

    class Meta:
        model = Measurement
        fields: ClassVar[list[str]] = ["state", "kind", "customer"]


class Measurements(TenantView[Measurement]):
    """The tenant's outbox."""

    topic = Topic.BILLING
    id_prefix = ids.MEASUREMENT
    queryset = Measurement.objects.select_related("customer", "period", "carried_from")
    representation = MeasurementOut
    filterset_class = MeasurementFilters

    @extend_schema(
        operation_id="listMeasurements",
        summary="List measurements",
        responses=MeasurementOut(many=True),
        examples=[OpenApiExample("One measurement", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists what Stripe was told, is told, or could not be told about use."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="getMeasurement",
        summary="Get a measurement",
        responses=MeasurementOut,
        examples=[OpenApiExample("The measurement", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one measurement."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="reissueMeasurement",
        summary="Tell a measurement anew",
        request=Nothing,
        responses=MeasurementOut,
        examples=[
            OpenApiExample("Nothing more to say", value={}, request_only=True),
            OpenApiExample(
                "It counts no more; the next one tells its amount",
                value={**EXAMPLE, "state": "abandoned", "outcome": "reissued"},
                response_only=True,
            ),
        ],
    )
    @action(detail=True, methods=["post"])
    def reissue(self, request: Request, pk: str) -> Response:
        """Has the amount of a failed or unclear one told under a new key. Look first whether Stripe counted it."""
        row = self.wanted(pk)
        self.require_match(row)
        self.read(Nothing)
        reissue(tenant_id=self.tenant_id, measurement_id=row.pk, actor=self.actor, now=self.now)
        return self.answer(self.wanted(pk))
