"""/v1/stripe: the tenant's account at Stripe, and how its billing stands."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from alerts.api.deliveries import Nothing
from billing.models import AccessMode, AccountState, StripeAccount
from billing.services import reconciling
from billing.services.stripe_access import NotConnected
from billing.services.stripe_accounts import (
    AccountChanges,
    Connection,
    change,
    connect,
    disconnect,
    set_up_again,
)
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "sta_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "mode": "key",
    "account": None,
    "key_last4": "4f2a",
    "livemode": True,
    "state": "ready",
    "problem": None,
    "webhook_url": "https://noburn.example.com/stripe/webhooks/sta_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "webhook_secrets": 2,
    "suspend_delinquent": False,
    "billed_from": "2026-11-22T12:00:00Z",
    "price": "price_1QabcdEFGH",
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:00Z",
}
STANDING: Final = {
    **EXAMPLE,
    "missing": ["link 1 customers whose use is billed to nobody"],
    "links": {"pending": 0, "linked": 12, "failed": 0},
    "measurements": {"pending": 3, "failed": 0, "unclear": 0},
    "oldest_pending_at": "2026-11-22T12:20:00Z",
    "waiting": [
        {"customer": "acme", "owed_usd": "1.25", "since": "2026-11-22T12:00:00Z", "reason": "not linked"}
    ],
}


class StripeOut(Representation):
    """A connected account. Key and secrets are never shown."""

    id = WireIdField(ids.STRIPE_ACCOUNT)
    mode = serializers.ChoiceField(choices=AccessMode.values)
    account = serializers.SerializerMethodField(help_text="With Connect: which account.")
    key_last4 = serializers.SerializerMethodField(help_text="Of the restricted key.")
    livemode = serializers.BooleanField()
    state = serializers.ChoiceField(choices=AccountState.values)
    problem = serializers.SerializerMethodField(help_text="What stopped set-up, or makes it wait.")
    webhook_url = serializers.SerializerMethodField(
        help_text="Make endpoints for this URL at Stripe. With Connect the platform has one for all."
    )
    webhook_secrets = serializers.SerializerMethodField(help_text="How many signing secrets are known.")
    suspend_delinquent = serializers.BooleanField(
        help_text="Suspends a customer whose payment fails, until it pays."
    )
    billed_from = TimeField(help_text="Use from this hour on is billed.")
    price = serializers.SerializerMethodField(help_text="The price of use that set-up made at Stripe.")
    created_at = TimeField()
    updated_at = TimeField()

    def get_account(self, row: StripeAccount) -> str | None:
        """None of its own, with a key."""
        return row.account or None

    def get_key_last4(self, row: StripeAccount) -> str | None:
        """None, with Connect."""
        return row.key_last4 or None

    def get_problem(self, row: StripeAccount) -> str | None:
        """None, when all is well."""
        return row.problem or None

    def get_webhook_url(self, row: StripeAccount) -> str:
        """Where its events go."""
        name = "platform" if row.mode == AccessMode.CONNECT else ids.encode(ids.STRIPE_ACCOUNT, row.pk)
        return f"{settings.BASE_URL}/stripe/webhooks/{name}"

    def get_webhook_secrets(self, row: StripeAccount) -> int:
        """Their number."""
        return len(row.webhook_secrets)

    def get_price(self, row: StripeAccount) -> str | None:
        """None, until set-up made it."""
        return row.price_id or None


class WaitingOut(serializers.Serializer[Any]):
    """A customer whose use is billed to nobody."""

    customer = serializers.CharField()
    owed_usd = UsdField()
    since = TimeField()
    reason = serializers.CharField()


class LinkCounts(serializers.Serializer[Any]):
    """Links by state."""

    pending = serializers.IntegerField()
    linked = serializers.IntegerField()
    failed = serializers.IntegerField()


class MeasurementCounts(serializers.Serializer[Any]):
    """Measurements that are under way, or wait for a person."""

    pending = serializers.IntegerField()
    failed = serializers.IntegerField()
    unclear = serializers.IntegerField()


class StripeStanding(StripeOut):
    """A connected account, and how billing through it stands."""

    missing = serializers.ListField(
        child=serializers.CharField(), help_text="What is to be done, the next thing first; empty: nothing."
    )
    links = LinkCounts()
    measurements = MeasurementCounts()
    oldest_pending_at = TimeField(allow_null=True, help_text="Since when the oldest one waits to be sent.")
    waiting = serializers.SerializerMethodField(
        help_text="Use that is billed to nobody: of the 200 customers that used most."
    )

    @extend_schema_field(WaitingOut(many=True))
    def get_waiting(self, row: Any) -> list[dict[str, Any]]:
        """The dearest first."""
        return [
            {
                "customer": one.customer,
                "owed_usd": to_usd(one.owed_nano),
                "since": TimeField().to_representation(one.since),
                "reason": one.reason,
            }
            for one in row.waiting
        ]


class _Secrets(serializers.ListField):
    """Signing secrets, which are taken and never shown."""

    child = serializers.CharField(max_length=300)


class StripeIn(Strict):
    """How an account is reached: a restricted key, or with Connect its id."""

    secret_key = serializers.CharField(
        max_length=300, required=False, help_text="A restricted key, rk_live_… or rk_test_…; never sk_…."
    )
    account = serializers.CharField(
        max_length=64,
        required=False,
        help_text="acct_…, of an account connected to this installation's platform.",
    )
    webhook_secrets = _Secrets(
        required=False, max_length=4, help_text="whsec_…, of each endpoint that you made at Stripe."
    )
    billed_from = TimeField(
        required=False,
        help_text="Use from then on is billed; at most a month back. Without it from this hour on.",
    )
    suspend_delinquent = serializers.BooleanField(required=False)


class StripeChanges(Strict):
    """What can change. A new key or new secrets take the place of those before at once."""

    secret_key = serializers.CharField(max_length=300, required=False)
    webhook_secrets = _Secrets(required=False, max_length=4)
    suspend_delinquent = serializers.BooleanField(required=False)


class OwnStripe(TenantView[StripeAccount]):
    """The tenant's account at Stripe."""

    topic = Topic.BILLING
    queryset = StripeAccount.objects.exclude(state=AccountState.DISCONNECTED)
    representation = StripeOut

    def _own(self) -> StripeAccount:
        found = self.rows().first()
        if found is None:
            raise NotConnected("stripe")
        return found

    @extend_schema(
        operation_id="getStripe",
        summary="Get how billing through Stripe stands",
        responses=StripeStanding,
        extensions={"x-problems": ["not-found"]},
        examples=[OpenApiExample("One customer is not linked yet", value=STANDING, response_only=True)],
    )
    def retrieve(self, request: Request) -> Response:
        """Returns the connection, what is missing next, and whose use is billed to nobody."""
        account = self._own()
        found = reconciling.status(account=account, now=self.now)
        for name in ("missing", "links", "measurements", "oldest_pending_at", "waiting"):
            setattr(account, name, getattr(found, name))
        return self.answer(account)

    def shown(
        self, row: Any, *, serializer: type[serializers.BaseSerializer[Any]] | None = None
    ) -> dict[str, Any]:
        """What is read says how billing stands; what a change answers is the connection alone."""
        standing = StripeStanding if self.action == "retrieve" else StripeOut
        return super().shown(row, serializer=serializer or standing)

    @extend_schema(
        operation_id="connectStripe",
        summary="Connect Stripe",
        request=StripeIn,
        responses={201: StripeOut},
        examples=[
            OpenApiExample(
                "A restricted key",
                value={"secret_key": "rk_test_51Qabcdefgh", "webhook_secrets": ["whsec_a1b2c3d4e5f6"]},
                request_only=True,
            ),
            OpenApiExample("Set-up begins", value={**EXAMPLE, "state": "pending"}, response_only=True),
        ],
    )
    def create(self, request: Request) -> Response:
        """Connects an account. Workers make meter, product and price there: get it again until it is `ready`."""
        wanted = Connection(**self.read(StripeIn))
        return self.answer(
            connect(tenant_id=self.tenant_id, connection=wanted, actor=self.actor, now=self.now), 201
        )

    @extend_schema(
        operation_id="updateStripe",
        summary="Change the connection to Stripe",
        request=StripeChanges,
        responses=StripeOut,
        extensions={"x-problems": ["not-found"]},
        examples=[
            OpenApiExample("Suspend who does not pay", value={"suspend_delinquent": True}, request_only=True),
            OpenApiExample(
                "The connection", value={**EXAMPLE, "suspend_delinquent": True}, response_only=True
            ),
        ],
    )
    def partial_update(self, request: Request) -> Response:
        """Changes what is named. With a new key set-up is done again, and finds what is there."""
        self.require_match(self._own())
        changes = AccountChanges(**self.read(StripeChanges))
        return self.answer(change(tenant_id=self.tenant_id, changes=changes, actor=self.actor, now=self.now))

    @extend_schema(
        operation_id="disconnectStripe",
        summary="Disconnect Stripe",
        responses={204: None},
        extensions={"x-problems": ["not-found"]},
    )
    def destroy(self, request: Request) -> Response:
        """Forgets key and secrets. What was not told yet waits; subscriptions at Stripe go on."""
        self.require_match(self._own())
        disconnect(tenant_id=self.tenant_id, actor=self.actor, now=self.now)
        return Response(status=204)

    @extend_schema(
        operation_id="setUpStripe",
        summary="Set up again",
        request=Nothing,
        responses=StripeOut,
        extensions={"x-problems": ["not-found"]},
        examples=[
            OpenApiExample("Nothing more to say", value={}, request_only=True),
            OpenApiExample("Set-up begins", value={**EXAMPLE, "state": "pending"}, response_only=True),
        ],
    )
    def set_up(self, request: Request) -> Response:
        """Does set-up once more, after what had stopped it was mended. What is there is found, not made again."""
        self.read(Nothing)
        return self.answer(set_up_again(tenant_id=self.tenant_id, actor=self.actor, now=self.now))
