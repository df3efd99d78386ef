"""/v1/rate-card-assignments: for whom which rate card holds, and from when on."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import RateCardAssignment
from billing.services.rate_cards import ASSIGNED_MAX, InvalidRateCard, RateCardNotFound, assign_card
from billing.services.rate_cards import withdraw_assignment as withdraw
from budgets.api.flags import flag
from noburn.kit import ids
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "rca_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "rate_card": "rcd_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "effective_from": "2026-11-22T13:00:00Z",
    "note": "",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:10:00Z",
    "withdrawn_at": None,
}


class RateCardAssignmentOut(Representation):
    """From a time on a card holds for a customer, or by default, until the next assignment begins."""

    id = WireIdField(ids.RATE_CARD_ASSIGNMENT)
    customer = serializers.SerializerMethodField(help_text="Your own id of it; null: by default.")
    rate_card = WireIdField(
        ids.RATE_CARD,
        source="card_id",
        allow_null=True,
        help_text="Null: none of its own any more, so the default holds; of the default: nothing is billed.",
    )
    effective_from = TimeField()
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = TimeField()
    withdrawn_at = TimeField(allow_null=True)

    def get_customer(self, row: RateCardAssignment) -> str | None:
        """None for the default."""
        return row.customer or None


class RateCardAssignmentIn(Strict):
    """A card for some customers, or by default."""

    rate_card = WireIdField(ids.RATE_CARD, allow_null=True)
    customers = serializers.ListField(
        child=serializers.CharField(max_length=200, trim_whitespace=False),
        required=False,
        allow_null=True,
        allow_empty=False,
        max_length=ASSIGNED_MAX,
        help_text="Your own ids of them; they need not have called yet. By default, if it is left out or null.",
    )
    effective_from = TimeField(
        required=False, help_text="A full hour that has not passed; the next one, if it is left out."
    )
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class MadeAssignments(serializers.Serializer[Any]):
    """What was made."""

    items = RateCardAssignmentOut(many=True)


class AssignmentFilters(django_filters.FilterSet):
    """Filters of the list."""

    customer = django_filters.CharFilter(max_length=200)
    default = flag(method="by_default", help_text="Those of the default alone, or those of customers.")
    rate_card = django_filters.CharFilter(method="of_card", max_length=60, help_text="Those of this card.")
    withdrawn = flag(method="taken_back", help_text="Whether they are withdrawn; both without it.")

    class Meta:
        model = RateCardAssignment
        fields: ClassVar[list[str]] = ["customer", "default", "rate_card", "withdrawn"]

    def by_default(
        self, queryset: QuerySet[RateCardAssignment], _name: str, value: bool
    ) -> QuerySet[RateCardAssignment]:
        """Rows without a customer, or with one."""
        return queryset.filter(customer="") if value else queryset.exclude(customer="")

    def of_card(
        self, queryset: QuerySet[RateCardAssignment], _name: str, value: str
    ) -> QuerySet[RateCardAssignment]:
        """Rows of a card; nobody's for a text that is no id."""
        try:
            return queryset.filter(card_id=ids.decode(ids.RATE_CARD, value))
        except ids.BadId:
            return queryset.none()

    def taken_back(
        self, queryset: QuerySet[RateCardAssignment], _name: str, value: bool
    ) -> QuerySet[RateCardAssignment]:
        """Rows that were withdrawn, or were not."""
        return queryset.filter(withdrawn_at__isnull=not value)


class RateCardAssignments(TenantView[RateCardAssignment]):
    """Assignments of the tenant's rate cards."""

    topic = Topic.BILLING
    id_prefix = ids.RATE_CARD_ASSIGNMENT
    queryset = RateCardAssignment.objects.all()
    representation = RateCardAssignmentOut
    filterset_class = AssignmentFilters

    @extend_schema(
        operation_id="listRateCardAssignments",
        summary="List who has which rate card",
        responses=RateCardAssignmentOut(many=True),
        examples=[OpenApiExample("A customer's own card", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists assignments, past, withdrawn and to come, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="assignRateCard",
        summary="Let a rate card hold",
        request=RateCardAssignmentIn,
        responses={201: MadeAssignments},
        examples=[
            OpenApiExample(
                "By default", value={"rate_card": "rcd_01jd2c8vq6f5k9s0m3w7x4y1z2"}, request_only=True
            ),
            OpenApiExample(
                "For two customers, from the new year on",
                value={
                    "rate_card": "rcd_01jd2c8vq6f5k9s0m3w7x4y1z2",
                    "customers": ["acme", "globex"],
                    "effective_from": "2027-01-01T00:00:00Z",
                },
                request_only=True,
            ),
            OpenApiExample("What was made", value={"items": [EXAMPLE]}, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Lets a card hold for up to 1,000 customers, or by default, from a full hour on; all or none."""
        values = self.read(RateCardAssignmentIn)
        try:
            made = assign_card(
                tenant_id=self.tenant_id,
                card_id=values["rate_card"],
                customers=values.get("customers"),
                effective_from=values.get("effective_from"),
                note=values.get("note", ""),
                actor=self.actor,
                now=self.now,
            )
        except RateCardNotFound as missing:
            raise InvalidRateCard([FieldError("rate_card", "is no rate card of yours")]) from missing
        return Response({"items": [self.shown(row) for row in made]}, status=201)

    @extend_schema(
        operation_id="withdrawRateCardAssignment",
        summary="Withdraw an assignment that has not begun",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Withdraws an assignment that has not begun; it stays in the list, with the time."""
        row = self.wanted(pk)
        self.require_match(row)
        withdraw(tenant_id=self.tenant_id, assignment_id=row.pk, actor=self.actor, now=self.now)
        return Response(status=204)
