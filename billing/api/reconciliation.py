"""/v1/billing/reconciliation: whether ledger, outbox and Stripe agree, and where each difference is."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.domain.reconciling import Why
from billing.models import Reconciliation
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "period": "per_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "starts_at": "2026-11-01T00:00:00Z",
    "ends_at": "2026-12-01T00:00:00Z",
    "owed_usd": "12.500000250",
    "told_usd": "12.5",
    "delivered_usd": "12.4",
    "measured_usd": "12.4",
    "invoiced_usd": None,
    "differences": [{"kind": "pending", "amount_usd": "0.1"}],
    "unexplained_usd": "0",
    "agrees": True,
    "checked_at": "2026-11-22T03:00:00Z",
}


class DifferenceOut(serializers.Serializer[Any]):
    """One difference."""

    kind = serializers.ChoiceField(choices=[kind.value for kind in Why])
    amount_usd = UsdField(allow_negative=True)


def _usd(micro: int | None) -> str | None:
    return None if micro is None else to_usd(micro * 1000)


class ReconciliationOut(Representation):
    """What the last look at one period found."""

    period = WireIdField(ids.BILLING_PERIOD, source="period_id")
    customer = serializers.CharField(source="customer.external_id")
    starts_at = TimeField(source="period.starts_at")
    ends_at = TimeField(source="period.ends_at")
    owed_usd = UsdField(
        source="owed_nano", allow_negative=True, help_text="By the ledger and the rate cards."
    )
    told_usd = serializers.SerializerMethodField(help_text="What the outbox tells in this period.")
    delivered_usd = serializers.SerializerMethodField(help_text="The part of it that Stripe took.")
    measured_usd = serializers.SerializerMethodField(
        help_text="What Stripe's summaries say; null where they could not be read."
    )
    invoiced_usd = serializers.SerializerMethodField(help_text="What the final invoice counts.")
    differences = serializers.SerializerMethodField(
        help_text="Where the amounts are by which the others differ from what is owed. docs/billing-stripe.md."
    )
    unexplained_usd = serializers.SerializerMethodField()
    agrees = serializers.BooleanField(help_text="Whether nothing waits for a person.")
    checked_at = TimeField()

    def get_told_usd(self, row: Reconciliation) -> str | None:
        """Whole micro-USD."""
        return _usd(row.told_micro)

    def get_delivered_usd(self, row: Reconciliation) -> str | None:
        """Whole micro-USD."""
        return _usd(row.delivered_micro)

    def get_measured_usd(self, row: Reconciliation) -> str | None:
        """Whole micro-USD."""
        return _usd(row.measured_micro)

    def get_invoiced_usd(self, row: Reconciliation) -> str | None:
        """None, until the invoice is final."""
        return _usd(row.invoiced_micro)

    def get_unexplained_usd(self, row: Reconciliation) -> str | None:
        """Zero, unless something is wrong."""
        return _usd(row.unexplained_micro)

    @extend_schema_field(DifferenceOut(many=True))
    def get_differences(self, row: Reconciliation) -> list[dict[str, Any]]:
        """Each kind once."""
        return [{"kind": d["kind"], "amount_usd": to_usd(d["micro"] * 1000)} for d in row.differences]


class ReconciliationFilters(django_filters.FilterSet):
    """Filters of the list."""

    agrees = django_filters.BooleanFilter()
    customer = django_filters.CharFilter(field_name="customer__external_id", max_length=200)

    class Meta:
        model = Reconciliation
        fields: ClassVar[list[str]] = ["agrees", "customer"]


class Reconciliations(TenantView[Reconciliation]):
    """What the nightly reconciliation found."""

    topic = Topic.BILLING
    queryset = Reconciliation.objects.select_related("customer", "period")
    representation = ReconciliationOut
    filterset_class = ReconciliationFilters

    @extend_schema(
        operation_id="listReconciliations",
        summary="List reconciled periods",
        responses=ReconciliationOut(many=True),
        examples=[OpenApiExample("A period that lasts", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists billing periods as they were found at night, each with every difference explained."""
        return self.page(self.get_queryset())
