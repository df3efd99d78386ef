"""How billing stands: what is to be done next, and what this month came to."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q

from billing.dashboard.base import BillingPage
from billing.models import AccountState, RateCard, RateCardAssignment, Reconciliation, StripeAccount, Wallet
from billing.services.card_periods import period_of
from billing.services.slow_figures import EARNED
from budgets.services.figures import figure


class Overview(BillingPage):
    """Steps to the first invoice, and the figures of the month."""

    tab = "billing"
    title = "Billing"
    template_name = "billing/overview.html"
    partials = {"earned": "billing/_earned.html"}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What is there, and what use has earned since the month began."""
        mine = {"tenant_id": self.tenant_id}
        account = StripeAccount.objects.filter(**mine).exclude(state=AccountState.DISCONNECTED).first()
        wallets = Wallet.objects.filter(**mine, closed_at=None)
        starts_at, _ = period_of("this-month", self.now)
        earned = figure(tenant=self.tenant, kind=EARNED, now=self.now)
        body = earned.body if earned.body and earned.body["since"] == starts_at.isoformat() else None
        shown = {"earned": body, "earned_as_of": earned.as_of, "pending": earned.pending}
        if self.get_template_names() != [self.template_name]:
            return {**super().get_context_data(**kwargs), **shown, "starts_at": starts_at}
        return {
            **super().get_context_data(**kwargs),
            "cards": RateCard.objects.filter(**mine).count(),
            "is_assigned": RateCardAssignment.objects.filter(
                **mine, withdrawn_at=None, card__isnull=False
            ).exists(),
            "account": account,
            "wallets": wallets.aggregate(count=Count("pk"), owing=Count("pk", filter=Q(owed_nano__gt=0))),
            "differing": Reconciliation.objects.filter(**mine, agrees=False).count(),
            **shown,
            "starts_at": starts_at,
        }
