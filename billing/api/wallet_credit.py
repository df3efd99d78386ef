"""/v1/wallets/{id}/grants, /journal and /top-ups: credit, where it went, and payments for more."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.failures import stripe_may_fail
from billing.models import (
    Account,
    CreditGrant,
    CreditKind,
    JournalPosting,
    PostingKind,
    TopUp,
    TopUpKind,
    TopUpState,
    Wallet,
)
from billing.services.payments import open_checkout
from billing.services.wallets import NewGrant, grant_credit, void_grant
from noburn.kit import ids
from noburn.kit.problems import Missing
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import M, TenantView
from tenants.domain.roles import Topic

GRANT: Final = {
    "id": "crg_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "promotional",
    "state": "active",
    "amount_usd": "10",
    "remaining_usd": "7.5",
    "priority": 40,
    "expires_at": "2027-01-01T00:00:00Z",
    "reason": "Welcome",
    "payment_id": None,
    "voided_at": None,
    "void_reason": "",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
}
POSTING: Final = {
    "id": "jrn_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "burn",
    "note": "",
    "calls": 12,
    "actor": "system",
    "created_at": "2026-11-22T12:00:05Z",
    "lines": [
        {"account": "promotional_credit", "grant": "crg_01jd2c8vq6f5k9s0m3w7x4y1z2", "amount_usd": "-2.5"},
        {"account": "revenue", "grant": None, "amount_usd": "2.5"},
    ],
}
TOP_UP: Final = {
    "id": "top_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "kind": "checkout",
    "state": "pending",
    "amount_usd": "20",
    "url": "https://checkout.stripe.com/c/pay/cs_1Qabcdefgh",
    "payment_id": None,
    "failure": "",
    "created_by": "user:mem_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "created_at": "2026-11-22T12:00:00Z",
    "finished_at": None,
}


class OfWallet(TenantView[M]):
    """A view of what belongs to the one wallet that its path names."""

    topic = Topic.BILLING

    @property
    def wallet(self) -> Wallet:
        """The wallet, a closed one too. Raises Missing."""
        wallet_id = self.path_id(self.kwargs["pk"], ids.WALLET)
        found = Wallet.objects.filter(tenant_id=self.tenant_id, pk=wallet_id).first()
        if found is None:
            raise Missing(self.kwargs["pk"])
        return found

    def rows(self) -> QuerySet[M]:
        """The wallet's rows. Raises Missing when the tenant has no such wallet."""
        return super().rows().filter(wallet_id=self.wallet.pk)


class GrantOut(Representation):
    """Credit in a wallet."""

    id = WireIdField(ids.CREDIT_GRANT)
    kind = serializers.ChoiceField(choices=CreditKind.values)
    state = serializers.SerializerMethodField(
        help_text="`active`, `used` up, `ended` by its time, or `voided`. What is left of the last two is kept an hour "
        "for calls of before."
    )
    amount_usd = UsdField(source="amount_nano")
    remaining_usd = UsdField(source="remaining_nano")
    priority = serializers.IntegerField(help_text="Credit of a lower one is burnt first.")
    expires_at = TimeField(allow_null=True, help_text="From when on it pays for no new call; null: never.")
    reason = serializers.CharField()
    payment_id = serializers.CharField(allow_null=True, help_text="The payment that bought it.")
    voided_at = TimeField(allow_null=True)
    void_reason = serializers.CharField()
    created_by = serializers.CharField()
    created_at = TimeField()

    def get_state(self, row: CreditGrant) -> str:
        """What it is good for now."""
        if row.voided_at is not None:
            return "voided"
        now = self.context["view"].now
        if row.expires_at is not None and row.expires_at <= now:
            return "ended"
        return "active" if row.remaining_nano else "used"


class GrantIn(Strict):
    """Credit to be given."""

    amount_usd = UsdField()
    kind = serializers.ChoiceField(
        choices=CreditKind.values, help_text="`paid`: the customer's money; `promotional`: a present."
    )
    priority = serializers.IntegerField(
        required=False, min_value=0, max_value=100, help_text="40 for presents, 50 for paid credit."
    )
    expires_at = TimeField(required=False)
    reason = serializers.CharField(required=False, max_length=500, allow_blank=True)


class VoidIn(Strict):
    """Why credit is taken back."""

    reason = serializers.CharField(max_length=500)
    refund = serializers.BooleanField(
        required=False, help_text="Whether what is left is paid back; of credit that a payment bought."
    )


class GrantFilters(django_filters.FilterSet):
    """Filters of the list."""

    kind = django_filters.ChoiceFilter(choices=CreditKind.choices)

    class Meta:
        model = CreditGrant
        fields: ClassVar[list[str]] = ["kind"]


class Grants(OfWallet[CreditGrant]):
    """Credit in a wallet."""

    queryset = CreditGrant.objects.all()
    representation = GrantOut
    filterset_class = GrantFilters
    observed = frozenset({"remaining_usd", "state"})

    @extend_schema(
        operation_id="listCreditGrants",
        summary="List a wallet's credit",
        responses=GrantOut(many=True),
        examples=[OpenApiExample("One grant", value=GRANT, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists grants of credit, newest first, used ones too."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="grantCredit",
        summary="Give credit",
        request=GrantIn,
        responses={201: GrantOut},
        examples=[
            OpenApiExample(
                "A present until the new year",
                value={
                    "amount_usd": "10",
                    "kind": "promotional",
                    "expires_at": "2027-01-01T00:00:00Z",
                    "reason": "Welcome",
                },
                request_only=True,
            ),
            OpenApiExample("The grant", value=GRANT, response_only=True),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Gives credit, from the next call on. What the wallet owes is paid with it first."""
        values = self.read(GrantIn)
        wanted = NewGrant(
            kind=values["kind"],
            amount_nano=values["amount_usd"],
            priority=values.get("priority"),
            expires_at=values.get("expires_at"),
            reason=values.get("reason", ""),
        )
        made = grant_credit(
            tenant_id=self.tenant_id, wallet_id=self.wallet.pk, grant=wanted, actor=self.actor, now=self.now
        )
        return self.answer(made, 201)

    @extend_schema(
        operation_id="voidCreditGrant",
        summary="Take credit back",
        request=VoidIn,
        responses=GrantOut,
        examples=[
            OpenApiExample("A mistake", value={"reason": "Given twice"}, request_only=True),
            OpenApiExample(
                "The grant",
                value={
                    **GRANT,
                    "state": "voided",
                    "voided_at": "2026-11-23T12:00:00Z",
                    "void_reason": "Given twice",
                },
                response_only=True,
            ),
        ],
    )
    def void(self, request: Request, pk: str, grant: str) -> Response:
        """Ends a grant: no new call uses it. Calls in flight keep theirs, and an hour later the rest is gone."""
        found = self.rows().filter(pk=self.path_id(grant, ids.CREDIT_GRANT)).first()
        if found is None:
            raise Missing(grant)
        voided = void_grant(
            tenant_id=self.tenant_id,
            wallet_id=found.wallet_id,
            grant_id=found.pk,
            actor=self.actor,
            now=self.now,
            **self.read(VoidIn),
        )
        return self.answer(voided)


class LineOut(serializers.Serializer[Any]):
    """So much on one account."""

    account = serializers.ChoiceField(choices=Account.values)
    grant = WireIdField(ids.CREDIT_GRANT, source="grant_id", allow_null=True)
    amount_usd = UsdField(source="amount_nano", allow_negative=True)


class PostingOut(Representation):
    """One thing that happened to a wallet; its lines add up to nothing."""

    id = WireIdField(ids.JOURNAL_POSTING)
    kind = serializers.ChoiceField(choices=PostingKind.values)
    note = serializers.CharField()
    calls = serializers.IntegerField(help_text="How many calls were burnt by it.")
    actor = serializers.CharField()
    created_at = TimeField()
    lines = LineOut(many=True)


class PostingFilters(django_filters.FilterSet):
    """Filters of the list."""

    kind = django_filters.ChoiceFilter(choices=PostingKind.choices)

    class Meta:
        model = JournalPosting
        fields: ClassVar[list[str]] = ["kind"]


class Journal(OfWallet[JournalPosting]):
    """A wallet's journal."""

    queryset = JournalPosting.objects.prefetch_related("lines")
    representation = PostingOut
    filterset_class = PostingFilters

    @extend_schema(
        operation_id="listJournal",
        summary="See where credit went",
        responses=PostingOut(many=True),
        examples=[OpenApiExample("A burn", value=POSTING, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists the postings of a wallet's journal, newest first. They are never changed."""
        return self.page(self.get_queryset())


class TopUpOut(Representation):
    """A payment into a wallet."""

    id = WireIdField(ids.TOP_UP)
    kind = serializers.ChoiceField(choices=TopUpKind.values)
    state = serializers.ChoiceField(choices=TopUpState.values)
    amount_usd = UsdField(source="amount_nano")
    url = serializers.SerializerMethodField(help_text="Where the customer pays; null once that is over.")
    payment_id = serializers.CharField(allow_null=True)
    failure = serializers.CharField(help_text="Why it failed.")
    created_by = serializers.CharField()
    created_at = TimeField()
    finished_at = TimeField(allow_null=True)

    def get_url(self, row: TopUp) -> str | None:
        """The page, while it may be paid on."""
        return row.url or None if row.state == TopUpState.PENDING else None


class TopUpIn(Strict):
    """A payment to be made by the customer."""

    amount_usd = UsdField(help_text="Whole cents, at least 0.50.")
    success_url = serializers.URLField(max_length=2000, help_text="Where the customer goes when it has paid.")
    cancel_url = serializers.URLField(max_length=2000, help_text="Where it goes when it has not.")


class TopUpFilters(django_filters.FilterSet):
    """Filters of the list."""

    state = django_filters.ChoiceFilter(choices=TopUpState.choices)
    kind = django_filters.ChoiceFilter(choices=TopUpKind.choices)

    class Meta:
        model = TopUp
        fields: ClassVar[list[str]] = ["state", "kind"]


class TopUps(OfWallet[TopUp]):
    """Payments into a wallet."""

    queryset = TopUp.objects.all()
    representation = TopUpOut
    filterset_class = TopUpFilters

    @extend_schema(
        operation_id="listTopUps",
        summary="List payments into a wallet",
        responses=TopUpOut(many=True),
        examples=[OpenApiExample("One payment", value=TOP_UP, response_only=True)],
    )
    def list(self, request: Request, pk: str) -> Response:
        """Lists payments, newest first, failed ones too."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="topUpWallet",
        summary="Let a customer pay into its wallet",
        request=TopUpIn,
        responses={201: TopUpOut},
        extensions={"x-problems": ["not-found", "stripe-unavailable", "stripe-refused"]},
        examples=[
            OpenApiExample(
                "Twenty dollars",
                value={
                    "amount_usd": "20",
                    "success_url": "https://app.example.com/thanks",
                    "cancel_url": "https://app.example.com/credit",
                },
                request_only=True,
            ),
            OpenApiExample("Send the customer to `url`", value=TOP_UP, response_only=True),
        ],
    )
    def create(self, request: Request, pk: str) -> Response:
        """Opens a page of Stripe's Checkout; what is paid there is credited once Stripe says so."""
        values = self.read(TopUpIn)
        with stripe_may_fail():
            made = open_checkout(
                tenant_id=self.tenant_id,
                wallet_id=self.wallet.pk,
                amount_nano=values["amount_usd"],
                success_url=values["success_url"],
                cancel_url=values["cancel_url"],
                actor=self.actor,
                now=self.now,
            )
        return self.answer(made, 201)
