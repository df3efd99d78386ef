"""How billing stands: what is to be done next, and what this month came to."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q

from billing.dashboard.base import BillingPage, period_of
from billing.domain.card_timelines import start_of_hour
from billing.models import AccountState, RateCard, RateCardAssignment, Reconciliation, StripeAccount, Wallet
from billing.services.revenue import revenue
from noburn.kit.problems import Invalid


class Overview(BillingPage):
    """Steps to the first invoice, and the figures of the month."""

    tab = "billing"
    title = "Billing"
    template_name = "billing/overview.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What is there, and what use has earned since the month began."""
        mine = {"tenant_id": self.tenant_id}
        account = StripeAccount.objects.filter(**mine).exclude(state=AccountState.DISCONNECTED).first()
        wallets = Wallet.objects.filter(**mine, closed_at=None)
        starts_at, until = period_of("this-month", self.now)
        earned, slow = None, ""
        if until <= start_of_hour(self.now):
            try:
                earned = revenue(
                    tenant_id=self.tenant_id, starts_at=starts_at, until=until, limit=1, now=self.now
                )
            except Invalid as invalid:
                slow = invalid.errors[0].message
        return {
            **super().get_context_data(**kwargs),
            "cards": RateCard.objects.filter(**mine).count(),
            "is_assigned": RateCardAssignment.objects.filter(
                **mine, withdrawn_at=None, card__isnull=False
            ).exists(),
            "account": account,
            "wallets": wallets.aggregate(count=Count("pk"), owing=Count("pk", filter=Q(owed_nano__gt=0))),
            "differing": Reconciliation.objects.filter(**mine, agrees=False).count(),
            "earned": earned,
            "slow": slow,
            "starts_at": starts_at,
        }
