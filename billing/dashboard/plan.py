"""noburn's own plan of the tenant: what is used of it, and the doors to change it."""

from __future__ import annotations

import secrets
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from billing.api.failures import stripe_may_fail
from billing.api.plan import standing
from billing.dashboard.base import BillingPage
from billing.domain.plans import CODES, FREE
from billing.models import PlanAccount
from billing.services import plan_changes
from billing.services.plans import ensure_account, plans_are_on
from noburn.kit.money import to_usd
from tenants.dashboard.page import ConfirmPage
from tenants.domain.roles import Topic

KEY_CHARS_MAX = 64
NANO_PER_CENT = 10**7


class Plan(BillingPage):
    """The plan, its count, and what else there is."""

    tab = "plan"
    title = "Your plan"
    template_name = "billing/plan.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """How the plan stands; self-hosted noburn has none."""
        account = ensure_account(tenant_id=self.tenant_id, now=self.now) if plans_are_on() else None
        return {
            **super().get_context_data(**kwargs),
            "plan": standing(account, self.now),
            "sold": account is not None,
            "is_paid": account is not None and bool(account.subscription),
            # Stripe answers a repeat of the same form as it did before.
            "key": secrets.token_hex(16),
        }


class PlanCheckout(BillingPage):
    """Opens Stripe's Checkout for a plan."""

    for_changing = True
    locked = False
    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sends the browser there."""
        back = request.build_absolute_uri(self.url("plan"))
        with stripe_may_fail():
            _, url = plan_changes.checkout(
                tenant_id=self.tenant_id,
                plan=request.POST.get("plan", "")[:40],
                success_url=back,
                cancel_url=back,
                key=request.POST.get("key", "")[:KEY_CHARS_MAX] or secrets.token_hex(16),
                now=self.now,
            )
        return HttpResponseRedirect(url)


class PlanPortal(BillingPage):
    """Opens Stripe's portal: cards, invoices, leaving."""

    for_changing = True
    locked = False
    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sends the browser there."""
        back = request.build_absolute_uri(self.url("plan"))
        with stripe_may_fail():
            url = plan_changes.portal(tenant_id=self.tenant_id, return_url=back, now=self.now)
        return HttpResponseRedirect(url)


class ChangePlan(ConfirmPage, BillingPage):
    """Asks before a paid plan becomes another one, with what that costs at once by Stripe's own arithmetic."""

    topic = Topic.BILLING
    section = "billing"
    title = "Change the plan"
    button = "Change it"
    destructive = False
    locked = False

    def question(self) -> str:
        """What is asked."""
        return f"Change to the plan {self.kwargs['plan'].capitalize()}?"

    def consequences(self) -> list[str]:
        """What will happen."""
        plan = self.kwargs["plan"]
        if plan == FREE:
            account = PlanAccount.objects.filter(tenant_id=self.tenant_id).first()
            ends_at = account.period_ends_at if account is not None else None
            until = f" on {ends_at:%Y-%m-%d}" if ends_at else ""
            return [
                f"The paid plan ends with its period{until}; nothing is given back.",
                "From then on calls beyond the free plan's requests are refused.",
            ]
        with stripe_may_fail():
            found = plan_changes.preview(tenant_id=self.tenant_id, plan=plan, now=self.now)
        lines = [f"{text}: {to_usd(cents * NANO_PER_CENT)} USD" for text, cents in found.lines]
        return [*lines, f"Due at once: {to_usd(found.due_cents * NANO_PER_CENT)} USD."]

    def back(self) -> str:
        """Where no leads."""
        return self.url("plan")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The question. Raises Invalid for what is no plan."""
        if self.kwargs["plan"] not in CODES:
            raise plan_changes.NoSubscription
        return super().get_context_data(**kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Changes it."""
        with stripe_may_fail():
            plan_changes.change(
                tenant_id=self.tenant_id,
                plan=self.kwargs["plan"],
                # One change to a plan a minute: whoever sends the form twice means it once.
                key=f"{self.actor}:{self.now:%Y%m%d%H%M}",
                actor=self.actor,
                now=self.now,
            )
        return self.go("plan", say="The plan is changed.")
