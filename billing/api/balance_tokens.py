"""/v1/customers/{id}/balance-token: lets a customer see its own balance for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.domain.balance_tokens import ORIGIN_CHARS_MAX, ORIGINS_MAX, TTL_DEFAULT, TTL_MAX, TTL_MIN, Shown
from billing.services.balances import make_balance_token
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField
from noburn.kit.rest.serializers import Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic
from tenants.models import Customer

EXAMPLE: Final = {
    "token": "nbb1.k1.lcQQAZPuWwAA….2xN…",
    "url": "https://noburn.example/embed/balance?token=nbb1.k1.lcQQAZPuWwAA….2xN…",
    "expires_at": "2026-11-22T12:15:00Z",
}


class BalanceTokenIn(Strict):
    """What a token is to allow."""

    ttl_seconds = serializers.IntegerField(
        min_value=int(TTL_MIN.total_seconds()),
        max_value=int(TTL_MAX.total_seconds()),
        required=False,
        help_text=f"For how long it holds; {int(TTL_DEFAULT.total_seconds())} unless said.",
    )
    origins = serializers.ListField(
        child=serializers.CharField(max_length=ORIGIN_CHARS_MAX),
        max_length=ORIGINS_MAX,
        required=False,
        help_text="Which sites may show the page in a frame, such as `https://app.example.com`; none unless said.",
    )
    show = serializers.ListField(
        child=serializers.ChoiceField(choices=[shown.value for shown in Shown]),
        min_length=1,
        max_length=len(Shown),
        required=False,
        help_text="What it shows: the wallet, the budgets of this customer, or both, as it does unless said.",
    )


class BalanceTokenOut(serializers.Serializer[Any]):
    """A token and the page that it opens."""

    token = serializers.CharField(
        allow_null=True, help_text="In this answer alone; null when the request is repeated."
    )
    url = serializers.CharField(allow_null=True, help_text="The page, for a frame or a link.")
    expires_at = TimeField()


class BalanceTokens(TenantView[Customer]):
    """Tokens for customers' own balances."""

    topic = Topic.CUSTOMERS
    id_prefix = ids.CUSTOMER
    queryset = Customer.objects.all()

    @extend_schema(
        operation_id="createBalanceToken",
        summary="Let a customer see its balance",
        request=BalanceTokenIn,
        responses={201: BalanceTokenOut},
        examples=[
            OpenApiExample(
                "For a frame of your site", value={"origins": ["https://app.example.com"]}, request_only=True
            ),
            OpenApiExample("The token", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Makes a short-lived token that shows one customer what is left of its wallet and budgets, and nothing else.

        It is signed and not stored, so it cannot be taken back before it expires.
        """
        customer = self.wanted(pk)
        asked = self.read(BalanceTokenIn)
        ttl = asked.get("ttl_seconds")
        made = make_balance_token(
            tenant_id=self.tenant_id,
            customer_id=customer.pk,
            ttl=TTL_DEFAULT if ttl is None else timedelta(seconds=ttl),
            origins=asked.get("origins", []),
            shown=[Shown(word) for word in asked.get("show", list(Shown))],
            now=self.now,
        )
        url = f"{settings.BASE_URL}/embed/balance?{urlencode({'token': made.token})}"
        body = {"token": made.token, "url": url, "expires_at": made.claims.expires_at}
        response = Response(BalanceTokenOut(body).data, status=201)
        # What is kept for a repeat of this request never holds the token.
        response.kept_body = {**response.data, "token": None, "url": None}  # type: ignore[attr-defined]
        return response
