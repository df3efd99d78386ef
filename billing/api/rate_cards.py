"""/v1/rate-cards: what customers pay; cards, their versions, and for whom they hold."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.terms import EXAMPLE as TERMS
from billing.api.terms import CardTerms, terms_of
from billing.models import RateCard, RateCardVersion
from billing.services.rate_cards import (
    NewVersion,
    append_version,
    create_rate_card,
    rename_rate_card,
    withdraw_version,
)
from noburn.kit import ids
from noburn.kit.problems import Missing
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

VERSION_EXAMPLE: Final = {
    "id": "rcv_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "number": 1,
    "effective_from": "2026-11-22T13:00:00Z",
    "terms": TERMS,
    "note": "",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:10:00Z",
    "withdrawn_at": None,
}
EXAMPLE: Final = {
    "id": "rcd_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "name": "standard",
    "current": None,
    "next": VERSION_EXAMPLE,
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:10:00Z",
}
FROM_HELP: Final = "A full hour that has not passed; the next one, if it is left out."


class RateCardVersionOut(Representation):
    """What a card says from a time on. It is never edited; one that has not begun may be withdrawn."""

    id = WireIdField(ids.RATE_CARD_VERSION)
    number = serializers.IntegerField()
    effective_from = TimeField()
    terms = CardTerms()
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = TimeField()
    withdrawn_at = TimeField(allow_null=True)


class RateCardOut(Representation):
    """A rate card."""

    id = WireIdField(ids.RATE_CARD)
    name = serializers.CharField()
    current = serializers.SerializerMethodField(help_text="The version that holds now; null: none yet.")
    next = serializers.SerializerMethodField(help_text="The next one that will; null: none is planned.")
    created_by = serializers.CharField()
    created_at = TimeField()

    @extend_schema_field(RateCardVersionOut(allow_null=True))
    def get_current(self, row: RateCard) -> dict[str, Any] | None:
        """The newest that has begun."""
        begun = [v for v in _versions(row) if v.effective_from <= self.context["now"]]
        return RateCardVersionOut(begun[-1]).data if begun else None

    @extend_schema_field(RateCardVersionOut(allow_null=True))
    def get_next(self, row: RateCard) -> dict[str, Any] | None:
        """The oldest that has not."""
        later = [v for v in _versions(row) if v.effective_from > self.context["now"]]
        return RateCardVersionOut(later[0]).data if later else None


def _versions(row: RateCard) -> list[RateCardVersion]:
    found = [version for version in row.versions.all() if version.withdrawn_at is None]
    return sorted(found, key=lambda version: version.effective_from)


class RateCardVersionIn(Strict):
    """What a card is to say from a time on."""

    terms = CardTerms()
    effective_from = TimeField(required=False, help_text=FROM_HELP)
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class RateCardIn(RateCardVersionIn):
    """A card with its first version."""

    name = serializers.CharField(max_length=200)


class RateCardChanges(Strict):
    """What can change of a card; what it says changes by another version."""

    name = serializers.CharField(max_length=200, required=False)


def version_of(values: dict[str, Any]) -> NewVersion:
    """Returns the version that a validated body asks for. Raises InvalidTerms."""
    return NewVersion(
        terms=terms_of(values["terms"]),
        effective_from=values.get("effective_from"),
        note=values.get("note", ""),
    )


class RateCardFilters(django_filters.FilterSet):
    """Filters of the list."""

    name = django_filters.CharFilter(max_length=200)

    class Meta:
        model = RateCard
        fields: ClassVar[list[str]] = ["name"]


class RateCards(TenantView[RateCard]):
    """Rate cards of the tenant."""

    topic = Topic.BILLING
    id_prefix = ids.RATE_CARD
    queryset = RateCard.objects.prefetch_related("versions")
    representation = RateCardOut
    filterset_class = RateCardFilters
    # They change as time passes, and nobody sets them.
    observed = frozenset({"current", "next"})

    def get_serializer_context(self) -> dict[str, Any]:
        """The time at which cards are looked at."""
        return {**super().get_serializer_context(), "now": getattr(self, "now", None)}

    @extend_schema(
        operation_id="listRateCards",
        summary="List rate cards",
        responses=RateCardOut(many=True),
        examples=[OpenApiExample("A card that is about to begin", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists rate cards. A customer without one is billed nothing."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createRateCard",
        summary="Make a rate card",
        request=RateCardIn,
        responses={201: RateCardOut},
        examples=[
            OpenApiExample(
                "Cost and a fifth",
                value={"name": "standard", "terms": {"markup_percent": "20"}},
                request_only=True,
            ),
            OpenApiExample(
                "Own rates, an included amount, a minimum and a discount",
                value={"name": "pro", "terms": TERMS, "note": "from the price list of 2026"},
                request_only=True,
            ),
            OpenApiExample("The card", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Makes a card with its first version. It prices nothing until it is assigned, to customers or by default."""
        values = self.read(RateCardIn)
        made, _ = create_rate_card(
            tenant_id=self.tenant_id,
            name=values["name"],
            version=version_of(values),
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getRateCard",
        summary="Get a rate card",
        responses=RateCardOut,
        examples=[OpenApiExample("The card", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one card, with the version that holds and the next one."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateRateCard",
        summary="Rename a rate card",
        request=RateCardChanges,
        responses=RateCardOut,
        examples=[
            OpenApiExample("Another name", value={"name": "standard 2026"}, request_only=True),
            OpenApiExample("The card", value=EXAMPLE, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Renames a card. What it says is changed by another version, from a later time on."""
        row = self.wanted(pk)
        self.require_match(row)
        changes = self.read(RateCardChanges)
        if changes:
            rename_rate_card(
                tenant_id=self.tenant_id, card_id=row.pk, name=changes["name"], actor=self.actor, now=self.now
            )
            row = self.wanted(pk)
        return self.answer(row)


class RateCardVersions(TenantView[RateCardVersion]):
    """Versions of one card."""

    topic = Topic.BILLING
    id_prefix = ids.RATE_CARD
    queryset = RateCardVersion.objects.all()
    representation = RateCardVersionOut
    filterset_class = None

    def rows(self) -> QuerySet[RateCardVersion]:
        """Those of the card in the path. Raises Missing for a card that is not the tenant's."""
        card_id = self.path_id(self.kwargs["pk"])
        if not RateCard.objects.filter(tenant_id=self.tenant_id, pk=card_id).exists():
            raise Missing(self.kwargs["pk"])
        return super().rows().filter(card_id=card_id)

    @extend_schema(
        operation_id="listRateCardVersions",
        summary="List a card's versions",
        responses=RateCardVersionOut(many=True),
        examples=[OpenApiExample("A version", value=VERSION_EXAMPLE, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists what the card says and said, withdrawn versions too, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="appendRateCardVersion",
        summary="Change what a card says",
        request=RateCardVersionIn,
        responses={201: RateCardVersionOut},
        examples=[
            OpenApiExample(
                "A higher markup from the new year on",
                value={"terms": {"markup_percent": "25"}, "effective_from": "2027-01-01T00:00:00Z"},
                request_only=True,
            ),
            OpenApiExample("The version", value=VERSION_EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Appends a version, later than all others. Use before it keeps its price."""
        self.rows()
        made = append_version(
            tenant_id=self.tenant_id,
            card_id=self.path_id(pk),
            version=version_of(self.read(RateCardVersionIn)),
            actor=self.actor,
            now=self.now,
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="withdrawRateCardVersion",
        summary="Withdraw a version that has not begun",
        responses={204: None},
    )
    def destroy(self, request: Request, pk: str, version: str) -> Response:
        """Withdraws a version that has not begun; it stays in the list, with the time."""
        row = self.rows().filter(pk=self.path_id(version, ids.RATE_CARD_VERSION)).first()
        if row is None:
            raise Missing(version)
        self.require_match(row)
        withdraw_version(
            tenant_id=self.tenant_id,
            card_id=row.card_id,
            version_id=row.pk,
            actor=self.actor,
            now=self.now,
        )
        return Response(status=204)
