"""/v1/stripe-links: which customer is which at Stripe."""

from __future__ import annotations

from typing import ClassVar, Final

import django_filters
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.models import LinkState, StripeLink
from billing.services.stripe_links import NewLink, link, unlink
from noburn.kit import ids
from noburn.kit.rest.fields import TimeField, WireIdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

EXAMPLE: Final = {
    "id": "lnk_01jd2c8vq6f5k9s0m3w7x4y1z2",
    "customer": "acme",
    "state": "linked",
    "problem": None,
    "stripe_customer": "cus_Qabcdefgh",
    "subscription": "sub_1Qabcdefgh",
    "subscription_status": "active",
    "period_starts_at": "2026-11-01T00:00:00Z",
    "period_ends_at": "2026-12-01T00:00:00Z",
    "told_until": "2026-11-22T11:00:00Z",
    "delinquent_at": None,
    "suspended": False,
    "created_at": "2026-11-22T12:00:00Z",
    "updated_at": "2026-11-22T12:00:00Z",
}


class StripeLinkOut(Representation):
    """A link."""

    id = WireIdField(ids.STRIPE_LINK)
    customer = serializers.CharField(source="customer.external_id", help_text="Your own id of the customer.")
    state = serializers.ChoiceField(choices=LinkState.values)
    problem = serializers.SerializerMethodField(help_text="What stopped it, or makes it wait.")
    stripe_customer = serializers.SerializerMethodField()
    subscription = serializers.SerializerMethodField()
    subscription_status = serializers.SerializerMethodField(help_text="As Stripe told it last.")
    period_starts_at = TimeField(allow_null=True, help_text="The subscription's present period.")
    period_ends_at = TimeField(allow_null=True)
    told_until = TimeField(
        source="frozen_until", allow_null=True, help_text="Use before it is in the outbox."
    )
    delinquent_at = TimeField(allow_null=True, help_text="Since when a payment has failed.")
    suspended = serializers.BooleanField(help_text="Whether it is suspended for that, until it pays.")
    created_at = TimeField()
    updated_at = TimeField()

    def get_problem(self, row: StripeLink) -> str | None:
        """None, when all is well."""
        return row.problem or None

    def get_stripe_customer(self, row: StripeLink) -> str | None:
        """None, until it was found or made."""
        return row.stripe_customer or None

    def get_subscription(self, row: StripeLink) -> str | None:
        """None, until there is one."""
        return row.subscription or None

    def get_subscription_status(self, row: StripeLink) -> str | None:
        """None, until there is one."""
        return row.subscription_status or None


class StripeLinkIn(Strict):
    """A customer to be linked, or to be linked anew."""

    customer = serializers.CharField(max_length=200, trim_whitespace=False, help_text="Your own id of it.")
    stripe_customer = serializers.CharField(
        max_length=64,
        required=False,
        help_text="cus_…. Without it one is looked for by noburn's mark and by the address, else made.",
    )
    email = serializers.CharField(max_length=254, required=False)
    subscription = serializers.BooleanField(
        required=False,
        help_text="Whether a subscription to the price of use is started if there is none. True by default.",
    )


class StripeLinkFilters(django_filters.FilterSet):
    """Filters of the list."""

    state = django_filters.ChoiceFilter(choices=LinkState.choices)
    customer = django_filters.CharFilter(field_name="customer__external_id", max_length=200)

    class Meta:
        model = StripeLink
        fields: ClassVar[list[str]] = ["state", "customer"]


class StripeLinks(TenantView[StripeLink]):
    """Links of the tenant's customers."""

    topic = Topic.BILLING
    id_prefix = ids.STRIPE_LINK
    queryset = StripeLink.objects.select_related("customer")
    representation = StripeLinkOut
    filterset_class = StripeLinkFilters

    @extend_schema(
        operation_id="listStripeLinks",
        summary="List links",
        responses=StripeLinkOut(many=True),
        examples=[OpenApiExample("One link", value=EXAMPLE, response_only=True)],
    )
    def list(self, request: Request) -> Response:
        """Lists which customers are which at Stripe."""
        return self.page(self.get_queryset())

    @extend_schema(
        operation_id="createStripeLink",
        summary="Link a customer",
        request=StripeLinkIn,
        responses={201: StripeLinkOut},
        extensions={"x-problems": ["not-found"]},
        examples=[
            OpenApiExample(
                "By address", value={"customer": "acme", "email": "billing@acme.example"}, request_only=True
            ),
            OpenApiExample(
                "It is being linked",
                value={
                    **EXAMPLE,
                    "state": "pending",
                    "stripe_customer": None,
                    "subscription": None,
                    "subscription_status": None,
                    "period_starts_at": None,
                    "period_ends_at": None,
                    "told_until": None,
                },
                response_only=True,
            ),
        ],
    )
    def create(self, request: Request) -> Response:
        """Links a customer, and starts its subscription. Workers do it: get it again until it is `linked`."""
        wanted = NewLink(**self.read(StripeLinkIn))
        made = link(tenant_id=self.tenant_id, wanted=wanted, actor=self.actor, now=self.now)
        return self.answer(made, 201)

    @extend_schema(
        operation_id="getStripeLink",
        summary="Get a link",
        responses=StripeLinkOut,
        examples=[OpenApiExample("The link", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request, pk: str) -> Response:
        """Returns one link."""
        return self.answer(self.wanted(pk))

    @extend_schema(operation_id="deleteStripeLink", summary="Remove a link", responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Removes a link by which nothing was told yet; another one can only be linked anew."""
        found = self.wanted(pk)
        self.require_match(found)
        unlink(tenant_id=self.tenant_id, link_id=found.pk, actor=self.actor, now=self.now)
        return Response(status=204)
