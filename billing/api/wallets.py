"""/v1/wallets: prepaid credit of customers, and how a wallet is topped up by itself."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import CreditGrant, Wallet
from billing.queries.wallet_balances import ACTIVE, with_balance
from billing.services.payments import FAILURES_MAX
from billing.services.wallets import AutomaticTopUp, close_wallet, create_wallet, set_automatic, set_low
from budgets.api.flags import flag
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "wal_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "state": "open",
    "balance_usd": "17.25",
    "owed_usd": "0",
    "low_usd": "5",
    "automatic": {
        "threshold_usd": "5",
        "amount_usd": "20",
        "monthly_max_usd": "100",
        "stopped": False,
    },
    "created_at": "2026-11-22T12:00:00Z",
    "closed_at": None,
}


class AutomaticOut(serializers.Serializer[Any]):
    """How a wallet is topped up by itself."""

    threshold_usd = UsdField()
    amount_usd = UsdField()
    monthly_max_usd = UsdField()
    stopped = serializers.BooleanField(
        help_text="Whether payments failed so often that it is not tried any more, until this is set again."
    )


class WalletOut(Representation):
    """A wallet."""

    id = WireIdField(ids.WALLET)
    customer = serializers.CharField(help_text="Your own id of the customer.")
    state = serializers.SerializerMethodField(help_text="`open`, or `closed`: nothing is enforced any more.")
    balance_usd = serializers.SerializerMethodField(
        help_text="What new calls may use, before those in flight and those not burnt yet; negative when it owes."
    )
    owed_usd = UsdField(source="owed_nano", help_text="What was charged beyond all credit; the next pays it.")
    low_usd = UsdField(
        source="low_nano", allow_null=True, help_text="Below which balance you are told (`wallet_low`)."
    )
    automatic = serializers.SerializerMethodField(help_text="How it is topped up by itself; null: it is not.")
    created_at = TimeField()
    closed_at = TimeField(allow_null=True)

    def get_state(self, row: Wallet) -> str:
        """open or closed."""
        return "open" if row.closed_at is None else "closed"

    def get_balance_usd(self, row: Wallet) -> str:
        """Active credit, less what is owed."""
        credit: int | None = getattr(row, "credit_nano", None)
        if credit is None:
            grants = CreditGrant.objects.filter(ACTIVE, wallet_id=row.pk, remaining_nano__gt=0)
            credit = sum(grants.values_list("remaining_nano", flat=True))
        return to_usd(credit - row.owed_nano)

    @extend_schema_field(AutomaticOut(allow_null=True))
    def get_automatic(self, row: Wallet) -> dict[str, Any] | None:
        """The settings, as they were given."""
        if row.auto_amount_nano is None:
            return None
        return {
            "threshold_usd": to_usd(row.auto_threshold_nano or 0),
            "amount_usd": to_usd(row.auto_amount_nano),
            "monthly_max_usd": to_usd(row.auto_monthly_max_nano or 0),
            "stopped": row.auto_failures >= FAILURES_MAX,
        }


class WalletIn(Strict):
    """A wallet to be made."""

    customer = serializers.CharField(max_length=200, trim_whitespace=False, help_text="Your own id of it.")


class AutomaticIn(Strict):
    """How a wallet is to be topped up by itself."""

    threshold_usd = UsdField(help_text="Below which balance.")
    amount_usd = UsdField(help_text="By how much: whole cents.")
    monthly_max_usd = UsdField(help_text="How much at most in a month (UTC).")


class WalletChanges(Strict):
    """What to change of a wallet."""

    low_usd = UsdField(required=False, allow_null=True)
    automatic = AutomaticIn(required=False, allow_null=True)


class WalletFilters(django_filters.FilterSet):
    """Filters of the list."""

    customer = django_filters.CharFilter(max_length=200)
    closed = flag(
        field_name="closed_at",
        lookup_expr="isnull",
        exclude=True,
        help_text="Whether they are closed; both without it.",
    )

    class Meta:
        model = Wallet
        fields: ClassVar[list[str]] = ["customer", "closed"]


class Wallets(TenantView[Wallet]):
    """Wallets of the tenant's customers."""

    topic = Topic.BILLING
    id_prefix = ids.WALLET
    queryset = Wallet.objects.all()
    representation = WalletOut
    filterset_class = WalletFilters
    observed = frozenset({"balance_usd", "owed_usd"})

    def rows(self) -> QuerySet[Wallet]:
        """The tenant's wallets, with what is in them."""
        return with_balance(super().rows())

    @extend_schema(
        operation_id="listWallets",
        summary="List wallets",
        responses=WalletOut(many=True),
        examples=[OpenApiExample("One wallet", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists wallets, newest first."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createWallet",
        summary="Make a customer pay beforehand",
        request=WalletIn,
        responses={201: WalletOut},
        examples=[
            OpenApiExample("For acme", value={"customer": "acme"}, request_only=True),
            OpenApiExample("The wallet", value=EXAMPLE, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Gives a customer a wallet. It is empty: from now on its calls are refused until there is credit in it."""
        made = create_wallet(tenant_id=self.tenant_id, actor=self.actor, now=self.now, **self.read(WalletIn))
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getWallet",
        summary="Get a wallet",
        responses=WalletOut,
        examples=[OpenApiExample("The wallet", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one wallet with its balance."""
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="updateWallet",
        summary="Set a wallet's alert and automatic top-up",
        request=WalletChanges,
        responses=WalletOut,
        examples=[
            OpenApiExample(
                "Twenty dollars when there are less than five",
                value={"automatic": {"threshold_usd": "5", "amount_usd": "20", "monthly_max_usd": "100"}},
                request_only=True,
            ),
            OpenApiExample("The wallet", value=EXAMPLE, response_only=True),
        ],
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Says when you are told, and how it is topped up by itself. Null takes either away."""
        wallet = self.wanted(pk)
        self.require_match(wallet)
        values = self.read(WalletChanges)
        common: dict[str, Any] = {
            "tenant_id": self.tenant_id,
            "wallet_id": wallet.pk,
            "actor": self.actor,
            "now": self.now,
        }
        if "automatic" in values:
            wanted = values["automatic"]
            automatic = (
                None
                if wanted is None
                else AutomaticTopUp(
                    threshold_nano=wanted["threshold_usd"],
                    amount_nano=wanted["amount_usd"],
                    monthly_max_nano=wanted["monthly_max_usd"],
                )
            )
            set_automatic(automatic=automatic, **common)
        if "low_usd" in values:
            set_low(low_nano=values["low_usd"], **common)
        return self.answer(self.wanted(pk))

    @extend_schema(
        operation_id="closeWallet",
        summary="Close a wallet",
        request=None,
        responses=WalletOut,
        examples=[OpenApiExample("The wallet", value={**EXAMPLE, "state": "closed"}, response_only=True)],
    )
    def close(self, request: Request, pk: str) -> Response:
        """Ends prepayment for the customer: nothing is enforced, and nothing is burnt for later calls. Credit stays."""
        wallet = self.wanted(pk)
        close_wallet(tenant_id=self.tenant_id, wallet_id=wallet.pk, actor=self.actor, now=self.now)
        return self.answer(self.wanted(pk))
