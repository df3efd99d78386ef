"""/v1/rate-cards/preview: what a card would have charged for use that has been."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.periods import name_of, named_as_asked
from billing.api.terms import EXAMPLE as TERMS
from billing.api.terms import CardTerms, terms_of
from billing.domain.card_timelines import start_of_hour
from billing.domain.rate_cards import Terms
from billing.models import RateCard, RateCardVersion
from billing.queries.rate_cards import version_of
from billing.services.previews import CUSTOMERS_MAX, Preview, preview
from billing.services.rate_cards import InvalidRateCard
from noburn.kit import ids
from noburn.kit.problems import FieldError
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.pages import CURSOR_CHARS_MAX, cursor_of, read_page
from noburn.kit.rest.serializers import Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "starts_at": "2026-10-01T00:00:00Z",
    "ends_at": "2026-11-01T00:00:00Z",
    "whole_period": True,
    "complete_through": "2026-11-22T11:59:58.120000Z",
    "totals": {
        "cost_usd": "1000",
        "charged_usd": "1200",
        "would_be_usd": "1250",
        "difference_usd": "50",
    },
    "items": [
        {
            "customer": "acme",
            "cost_usd": "100",
            "charged_usd": "120",
            "would_be_usd": "125",
            "difference_usd": "5",
        }
    ],
    "next_cursor": None,
}


class RateCardPreviewIn(Strict):
    """A card, saved or not, and a time that has been."""

    terms = CardTerms(required=False)
    rate_card = WireIdField(
        ids.RATE_CARD, required=False, help_text="By its newest version, in place of `terms`."
    )
    starts_at = TimeField(help_text="A full hour.")
    ends_at = TimeField(required=False, help_text="A full hour; the beginning of this one by default.")
    whole_period = serializers.BooleanField(
        required=False,
        help_text="Whether it is a whole period of billing, for which minimums count and totals are rounded. True.",
    )
    customers = serializers.ListField(
        child=serializers.CharField(max_length=200, trim_whitespace=False),
        required=False,
        allow_empty=False,
        max_length=CUSTOMERS_MAX,
        help_text="Your own ids of them; all that used anything, if it is left out.",
    )
    limit = serializers.IntegerField(min_value=1, max_value=CUSTOMERS_MAX, required=False)
    cursor = serializers.CharField(max_length=CURSOR_CHARS_MAX, required=False)


class ComparedCharge(serializers.Serializer[Any]):
    """What use cost the tenant, what was charged for it, and what would have been."""

    cost_usd = UsdField()
    charged_usd = UsdField(allow_negative=True)
    would_be_usd = UsdField(allow_negative=True)
    difference_usd = UsdField(allow_negative=True)


class ComparedCustomer(ComparedCharge):
    """The same of one customer."""

    customer = serializers.CharField()


class RateCardPreview(serializers.Serializer[Any]):
    """A page of customers by name. The totals are of everybody's use, without minimums and rounding."""

    starts_at = TimeField()
    ends_at = TimeField()
    whole_period = serializers.BooleanField()
    complete_through = TimeField(allow_null=True)
    totals = ComparedCharge()
    items = ComparedCustomer(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class RateCardPreviews(TenantView[RateCard]):
    """Previews of rate cards."""

    topic = Topic.BILLING
    queryset = RateCard.objects.none()

    @extend_schema(
        operation_id="previewRateCard",
        summary="See what a rate card would have charged",
        request=RateCardPreviewIn,
        responses=RateCardPreview,
        examples=[
            OpenApiExample(
                "A card that is not saved",
                value={
                    "terms": TERMS,
                    "starts_at": "2026-10-01T00:00:00Z",
                    "ends_at": "2026-11-01T00:00:00Z",
                },
                request_only=True,
            ),
            OpenApiExample("Beside what was charged", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Prices past use by a card for everybody, beside the cards that held then. Nothing changes by it."""
        asked = self.read(RateCardPreviewIn)
        terms = self._terms(asked)
        ends_at = asked.get("ends_at") or start_of_hour(self.now)
        whole = asked.get("whole_period", True)
        limit = asked.get("limit", 50)
        page = read_page({"cursor": asked["cursor"]} if "cursor" in asked else {}, key=[name_of])
        with named_as_asked({"until": "ends_at"}):
            found = preview(
                tenant_id=self.tenant_id,
                terms=terms,
                starts_at=asked["starts_at"],
                until=ends_at,
                final=whole,
                customers=asked.get("customers"),
                after=page.after[0] if page.after else "",
                limit=limit,
                now=self.now,
            )
        body = {"starts_at": asked["starts_at"], "ends_at": ends_at, "whole_period": whole, **_shown(found)}
        return Response(RateCardPreview(body).data)

    def _terms(self, asked: dict[str, Any]) -> Terms:
        card_id = asked.get("rate_card")
        if ("terms" in asked) == (card_id is not None):
            raise InvalidRateCard([FieldError("terms", "say either terms or rate_card")])
        if card_id is None:
            return terms_of(asked["terms"])
        newest = (
            RateCardVersion.objects.filter(
                tenant_id=self.tenant_id, card_id=card_id, withdrawn_at__isnull=True
            )
            .order_by("-effective_from")
            .first()
        )
        if newest is None:
            raise InvalidRateCard([FieldError("rate_card", "is no rate card of yours, or has no version")])
        return version_of(newest).terms


def _shown(found: Preview) -> dict[str, Any]:
    held, proposed = found.held, found.proposed
    items = [
        {
            "customer": item.customer,
            **_compared(item.held.cost_nano, item.held.total_nano, item.proposed.total_nano),
        }
        for item in found.items
    ]
    return {
        "complete_through": found.complete_through,
        "totals": _compared(held.cost_nano, held.revenue_nano, proposed.revenue_nano),
        "items": items,
        "next_cursor": cursor_of([found.items[-1].customer]) if found.more else None,
    }


def _compared(cost: int, charged: int, would_be: int) -> dict[str, int]:
    return {
        "cost_usd": cost,
        "charged_usd": charged,
        "would_be_usd": would_be,
        "difference_usd": would_be - charged,
    }
