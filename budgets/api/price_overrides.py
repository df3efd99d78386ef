"""/v1/price-overrides: what a tenant has negotiated with its providers."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import F, Q, QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from budgets.api.amounts import CountField
from budgets.api.flags import flag
from budgets.domain.policy import ANY_MODEL
from budgets.domain.pricing_rates import MAX_COUNT, UNITS
from budgets.models import PriceOverride
from budgets.services.price_overrides import (
    PRICES_MAX,
    NewPriceOverride,
    OverridePrice,
    PriceOverrideOverlap,
    create_price_override,
    end_price_override,
)
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.problems import ProblemError, problem
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "pov_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "provider": "openai",
    "model": "gpt-4o-mini",
    "discount_percent": "12.5",
    "prices": None,
    "effective_from": "2026-11-22T12:00:00Z",
    "effective_to": None,
    "note": "contract of 2026",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
}
PRICED: Final = {
    "unit": "input_tokens",
    "price_usd": "0.0000001",
    "tier_start": 0,
    "variant": "standard",
}


class UnitPrice(Strict):
    """USD for one unit (one token, one search), not for a million."""

    unit = serializers.ChoiceField(choices=sorted(UNITS))
    price_usd = serializers.RegexField(
        r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,12})?$",
        max_length=20,
        help_text="USD for one unit as a decimal string with up to twelve places.",
        error_messages={"invalid": 'must be a decimal string in USD such as "0.00000015"'},
    )
    tier_start = CountField(
        min_value=0,
        max_value=MAX_COUNT,
        required=False,
        help_text="From how many input tokens on; 0 by default.",
    )
    variant = serializers.CharField(
        max_length=64, required=False, help_text="`standard` (the default), `batch`, `flex`, `priority`, …"
    )


def _prices() -> serializers.BaseSerializer[Any]:
    options: dict[str, Any] = {"many": True, "required": False, "max_length": PRICES_MAX}
    return UnitPrice(**options)


class PriceOverrideOut(Representation):
    """A negotiated price."""

    id = WireIdField(ids.PRICE_OVERRIDE)
    provider = serializers.CharField()
    model = serializers.CharField(help_text="One model's name, or `*` for all of the provider.")
    discount_percent = serializers.SerializerMethodField(
        help_text="On the price book's prices; null: `prices` stand in place of them."
    )
    prices = serializers.SerializerMethodField(help_text="Unit by unit; null: a discount.")
    effective_from = TimeField()
    effective_to = TimeField(allow_null=True)
    note = serializers.CharField()
    created_by = serializers.CharField()
    created_at = TimeField()

    def get_discount_percent(self, row: PriceOverride) -> str | None:
        """As short as it may be written."""
        if row.discount_percent is None:
            return None
        text = f"{row.discount_percent:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    def get_prices(self, row: PriceOverride) -> list[dict[str, Any]] | None:
        """As they were sent."""
        if row.prices is None:
            return None
        return [
            {
                "unit": price["unit"],
                "price_usd": price["price"],
                "tier_start": price["tier_start"],
                "variant": price["variant"] or "standard",
            }
            for price in row.prices
        ]


class PriceOverrideIn(Strict):
    """A negotiated price: a discount, or prices of units."""

    provider = serializers.CharField(max_length=100)
    model = serializers.CharField(
        max_length=200,
        required=False,
        help_text="One model's name, also of a model of your own; `*` (the default) for all of the provider.",
    )
    discount_percent = serializers.RegexField(
        r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,4})?$",
        max_length=8,
        required=False,
        help_text='From "0" to "100" with up to four places.',
        error_messages={"invalid": 'must be a decimal string such as "12.5"'},
    )
    prices = _prices()
    effective_from = TimeField(required=False, help_text="Now, if it is left out.")
    effective_to = TimeField(required=False, allow_null=True)
    note = serializers.CharField(max_length=500, required=False, allow_blank=True)


class Ending(Strict):
    """When a negotiated price ends."""

    effective_to = TimeField(required=False, help_text="Now, if it is left out.")


class PriceOverrideFilters(django_filters.FilterSet):
    """Filters of the list."""

    provider = django_filters.CharFilter(max_length=100, lookup_expr="iexact")
    model = django_filters.CharFilter(max_length=200, lookup_expr="iexact")
    live = flag(method="living", help_text="In force, or still to come.")

    class Meta:
        model = PriceOverride
        fields: ClassVar[list[str]] = ["provider", "model", "live"]

    def living(self, queryset: QuerySet[PriceOverride], _name: str, value: bool) -> QuerySet[PriceOverride]:
        """Those that are not over, or those that are."""
        over = Q(effective_to__lte=utc_now()) | Q(effective_to=F("effective_from"))
        return queryset.exclude(over) if value else queryset.filter(over)


class PriceOverrides(TenantView[PriceOverride]):
    """Negotiated prices of the tenant."""

    topic = Topic.PRICES
    id_prefix = ids.PRICE_OVERRIDE
    queryset = PriceOverride.objects.all()
    representation = PriceOverrideOut
    filterset_class = PriceOverrideFilters

    @extend_schema(
        operation_id="listPriceOverrides",
        summary="List negotiated prices",
        responses=PriceOverrideOut(many=True),
        examples=[OpenApiExample("A discount", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists negotiated prices, ended ones too, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createPriceOverride",
        summary="Negotiate a price",
        request=PriceOverrideIn,
        responses={201: PriceOverrideOut},
        extensions={"x-problems": ["price-overlap"]},
        examples=[
            OpenApiExample(
                "A discount on everything of a provider",
                value={"provider": "openai", "discount_percent": "12.5", "note": "contract of 2026"},
                request_only=True,
            ),
            OpenApiExample(
                "Prices of a model of one's own",
                value={
                    "provider": "openai",
                    "model": "ft:gpt-4o-mini:acme",
                    "prices": [
                        {"unit": "input_tokens", "price_usd": "0.0000003"},
                        {"unit": "output_tokens", "price_usd": "0.0000012"},
                    ],
                },
                request_only=True,
            ),
            OpenApiExample("The negotiated price", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Appends a negotiated price, by which calls are held and settled from its start on. None is ever edited."""
        values = self.read(PriceOverrideIn)
        prices = values.pop("prices", None)
        wanted = NewPriceOverride(
            **{"model": ANY_MODEL, **values},
            prices=None if prices is None else tuple(_price(price) for price in prices),
        )
        try:
            made = create_price_override(
                tenant_id=self.tenant_id, override=wanted, actor=self.actor, now=self.now
            )
        except PriceOverrideOverlap as overlap:
            raise ProblemError(
                problem("price-overlap", "Another negotiated price holds in that period.", overlap.errors)
            ) from overlap
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getPriceOverride",
        summary="Get a negotiated price",
        responses=PriceOverrideOut,
        examples=[OpenApiExample("A discount", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one negotiated price."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="endPriceOverride",
        summary="End a negotiated price",
        request=Ending,
        responses=PriceOverrideOut,
        examples=[
            OpenApiExample(
                "At the year's end", value={"effective_to": "2027-01-01T00:00:00Z"}, request_only=True
            ),
            OpenApiExample(
                "The negotiated price",
                value={**EXAMPLE, "effective_to": "2027-01-01T00:00:00Z"},
                response_only=True,
            ),
        ],
    )
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """Ends it at a time that has not passed; one that has not begun is withdrawn. Calls held at it settle at it."""
        row = self.wanted(pk)
        self.require_match(row)
        ended = end_price_override(
            tenant_id=self.tenant_id,
            override_id=row.pk,
            at=self.read(Ending).get("effective_to"),
            actor=self.actor,
            now=self.now,
        )
        return self.answer(ended)


def _price(values: dict[str, Any]) -> OverridePrice:
    variant = values.get("variant", "standard")
    return OverridePrice(
        unit=values["unit"],
        price=values["price_usd"],
        tier_start=values.get("tier_start", 0),
        variant="" if variant == "standard" else variant,
    )
