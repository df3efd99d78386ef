"""/v1/account/plan: noburn's own plan of the tenant, what was used of it, and the doors to Stripe's pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.failures import stripe_may_fail
from billing.domain.plans import CODES, FREE, UNLIMITED, Offer, forecast, offers_at
from billing.models import PlanAccount, PlanStatus
from billing.services import plan_changes
from billing.services.plans import ensure_account, offer_of, period_of, plans_are_on
from noburn.kit.money import to_usd
from noburn.kit.rest.fields import TimeField, UsdField
from noburn.kit.rest.serializers import Representation, Strict
from tenants.api.base import TenantView
from tenants.domain.roles import Topic

NANO_PER_CENT: Final = 10**7
PAID: Final = tuple(code for code in CODES if code != FREE)
STATUSES: Final = (UNLIMITED, *PlanStatus.values)

EXAMPLE: Final = {
    "plan": "team",
    "name": "Team",
    "status": "active",
    "period_starts_at": "2026-12-01T00:00:00Z",
    "period_ends_at": "2027-01-01T00:00:00Z",
    "trial_ends_at": None,
    "cancel_at": None,
    "requests": 412000,
    "requests_included": 1000000,
    "requests_refused_from": None,
    "requests_forecast": 826000,
    "overage_usd": "0",
    "refused_until": None,
    "counted_at": "2026-12-16T11:59:50Z",
    "offers": [
        {
            "plan": "team",
            "name": "Team",
            "requests_included": 1000000,
            "monthly_usd": "49",
            "overage_usd_per_thousand": "0.05",
        }
    ],
}


class OfferOut(serializers.Serializer[Any]):
    """One plan of the public catalogue."""

    plan = serializers.CharField()
    name = serializers.CharField()
    requests_included = serializers.IntegerField(help_text="A month.")
    monthly_usd = UsdField()
    overage_usd_per_thousand = UsdField(
        allow_null=True, help_text="For a thousand requests beyond; null: calls are refused instead."
    )


class PlanOut(Representation):
    """The tenant's plan, and what was used of it."""

    plan = serializers.ChoiceField(choices=(UNLIMITED, *CODES))
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=STATUSES)
    period_starts_at = TimeField(allow_null=True)
    period_ends_at = TimeField(allow_null=True)
    trial_ends_at = TimeField(allow_null=True)
    cancel_at = TimeField(allow_null=True, help_text="When the free plan follows.")
    requests = serializers.IntegerField(help_text="Counted in this period.")
    requests_included = serializers.IntegerField(allow_null=True, help_text="Null: as many as you like.")
    requests_refused_from = serializers.IntegerField(
        allow_null=True, help_text="The count from which calls are refused as `plan_limit`; null: none is."
    )
    requests_forecast = serializers.IntegerField(
        help_text="At the period's end, if it goes on as it did so far."
    )
    overage_usd = UsdField(help_text="What the requests beyond have come to.")
    refused_until = TimeField(allow_null=True)
    counted_at = TimeField(allow_null=True)
    offers = OfferOut(many=True, help_text="What can be had now.")


class PlanWanted(Strict):
    """A plan."""

    plan = serializers.ChoiceField(choices=CODES)


class CheckoutIn(Strict):
    """A paid plan, and where to come back to."""

    plan = serializers.ChoiceField(choices=PAID)
    success_url = serializers.URLField(max_length=2048)
    cancel_url = serializers.URLField(max_length=2048)


class ReturnIn(Strict):
    """Where to come back to."""

    return_url = serializers.URLField(max_length=2048)


class AddressOut(serializers.Serializer[Any]):
    """A page of Stripe's."""

    url = serializers.CharField(help_text="Send the person there.")


class PreviewLine(serializers.Serializer[Any]):
    """One line of what a change costs; what is given back is below zero."""

    description = serializers.CharField()
    amount_usd = UsdField()


class PreviewOut(serializers.Serializer[Any]):
    """What a change would cost at once."""

    due_usd = UsdField()
    lines = PreviewLine(many=True)


def _nano(cents: int) -> int:
    return cents * NANO_PER_CENT


def _offer(offer: Offer) -> dict[str, Any]:
    beyond = offer.overage_cents
    return {
        "plan": offer.code,
        "name": offer.name,
        "requests_included": offer.requests,
        "monthly_usd": _nano(offer.base_cents),
        "overage_usd_per_thousand": None if beyond is None else int(beyond * 1000 * NANO_PER_CENT),
    }


def standing(account: PlanAccount | None, now: datetime) -> dict[str, Any]:
    """How a plan stands, as it is shown; None where this installation has no plans."""
    if account is None:
        times = (
            "period_starts_at",
            "period_ends_at",
            "trial_ends_at",
            "cancel_at",
            "refused_until",
            "counted_at",
        )
        nothing = dict.fromkeys((*times, "requests_included", "requests_refused_from"))
        return nothing | {
            "plan": UNLIMITED,
            "name": "Self-hosted",
            "status": UNLIMITED,
            "requests": 0,
            "requests_forecast": 0,
            "overage_usd": 0,
            "offers": [],
        }
    offer, (starts_at, ends_at) = offer_of(account, now), period_of(account, now)
    count = account.counted if account.counted_from == starts_at else 0
    return {
        "plan": offer.code,
        "name": offer.name,
        "status": account.status,
        "period_starts_at": starts_at,
        "period_ends_at": ends_at,
        "trial_ends_at": account.trial_ends_at,
        "cancel_at": account.cancel_at,
        "requests": count,
        "requests_included": offer.requests,
        "requests_refused_from": offer.refused_from,
        "requests_forecast": forecast(count, starts_at, ends_at, now),
        "overage_usd": _nano(offer.overage(count)),
        "refused_until": account.refused_until
        if account.refused_until and account.refused_until > now
        else None,
        "counted_at": account.counted_at,
        "offers": [_offer(each) for each in offers_at(now)],
    }


class OwnPlan(TenantView[PlanAccount]):
    """The plan of the tenant that asks."""

    topic = Topic.BILLING
    queryset = PlanAccount.objects.all()
    representation = PlanOut
    observed = frozenset({"requests", "requests_forecast", "overage_usd", "counted_at"})

    def _changing(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        """Waits for Stripe, so it holds no lock; Stripe answers a repeat of the same key as before."""

        def ask(request: Request, *args: Any, **kwargs: Any) -> Response:
            self.stripe_key = self._idempotency_key(request)
            with stripe_may_fail():
                return handler(request, *args, **kwargs)

        return ask

    @extend_schema(
        operation_id="getPlan",
        summary="Get noburn's own plan",
        responses=PlanOut,
        examples=[OpenApiExample("A paid plan", value=EXAMPLE, response_only=True)],
    )
    def retrieve(self, request: Request) -> Response:
        """Returns the plan, the requests of this period and the catalogue. Self-hosted: nothing is limited."""
        if not plans_are_on():
            return self.answer(standing(None, self.now))
        return self.answer(standing(ensure_account(tenant_id=self.tenant_id, now=self.now), self.now))

    @extend_schema(
        operation_id="buyPlan",
        summary="Buy a plan",
        request=CheckoutIn,
        responses={201: AddressOut},
        extensions={"x-problems": ["stripe-refused", "stripe-unavailable"]},
        examples=[
            OpenApiExample(
                "The team plan",
                value={
                    "plan": "team",
                    "success_url": "https://app.example.com/ok",
                    "cancel_url": "https://app.example.com/no",
                },
                request_only=True,
            ),
            OpenApiExample(
                "Checkout", value={"url": "https://checkout.stripe.com/c/pay/cs_1"}, response_only=True
            ),
        ],
    )
    def checkout(self, request: Request) -> Response:
        """Opens Stripe's Checkout for a plan, with 14 days of trial the first time."""
        wanted = self.read(CheckoutIn)
        _, url = plan_changes.checkout(
            tenant_id=self.tenant_id,
            plan=wanted["plan"],
            success_url=wanted["success_url"],
            cancel_url=wanted["cancel_url"],
            key=self.stripe_key,
            now=self.now,
        )
        return Response({"url": url}, status=201)

    @extend_schema(
        operation_id="openPlanPortal",
        summary="Open the portal of noburn's own billing",
        request=ReturnIn,
        responses={201: AddressOut},
        extensions={"x-problems": ["stripe-refused", "stripe-unavailable"]},
        examples=[
            OpenApiExample("And back", value={"return_url": "https://app.example.com"}, request_only=True),
            OpenApiExample(
                "The portal", value={"url": "https://billing.stripe.com/p/session/1"}, response_only=True
            ),
        ],
    )
    def portal(self, request: Request) -> Response:
        """Opens Stripe's portal: cards, invoices, leaving."""
        wanted = self.read(ReturnIn)
        url = plan_changes.portal(tenant_id=self.tenant_id, return_url=wanted["return_url"], now=self.now)
        return Response({"url": url}, status=201)

    @extend_schema(
        operation_id="previewPlan",
        summary="Preview a change of the plan",
        request=PlanWanted,
        responses=PreviewOut,
        extensions={"x-problems": ["stripe-refused", "stripe-unavailable"]},
        examples=[
            OpenApiExample("The scale plan", value={"plan": "scale"}, request_only=True),
            OpenApiExample(
                "What it costs now",
                value={
                    "due_usd": "225",
                    "lines": [
                        {"description": "Unused time on 1 x noburn Team", "amount_usd": "-24.5"},
                        {"description": "Remaining time on 1 x noburn Scale", "amount_usd": "249.5"},
                    ],
                },
                response_only=True,
            ),
        ],
    )
    def preview(self, request: Request) -> Response:
        """Says what a change to another paid plan would cost at once, by Stripe's own arithmetic."""
        wanted = self.read(PlanWanted)
        found = plan_changes.preview(tenant_id=self.tenant_id, plan=wanted["plan"], now=self.now)
        lines = [{"description": text, "amount_usd": to_usd(_nano(cents))} for text, cents in found.lines]
        return Response({"due_usd": to_usd(_nano(found.due_cents)), "lines": lines})

    @extend_schema(
        operation_id="changePlan",
        summary="Change the plan",
        request=PlanWanted,
        responses=PlanOut,
        extensions={"x-problems": ["stripe-refused", "stripe-unavailable"]},
        examples=[
            OpenApiExample("The scale plan", value={"plan": "scale"}, request_only=True),
            OpenApiExample("The plan", value=EXAMPLE, response_only=True),
        ],
    )
    def change(self, request: Request) -> Response:
        """Moves to another paid plan at once, prorated; `free` ends the paid one with its period."""
        wanted = self.read(PlanWanted)
        account = plan_changes.change(
            tenant_id=self.tenant_id,
            plan=wanted["plan"],
            key=self.stripe_key,
            actor=self.actor,
            now=self.now,
        )
        return self.answer(standing(account, self.now))
