"""A customer's wallet through a year: topped up by its card, given presents, charged for its calls, closed one day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from billing.models import CreditGrant, CreditKind, TopUp, TopUpState
from billing.services import payments
from billing.services.burning import burn
from billing.services.true_ups import true_up_due
from billing.services.wallets import AutomaticTopUp, set_automatic
from billing.stripe.payments import TOP_UP
from noburn.kit import ids
from tests.billing.push.till import Till
from tests.billing.wallets.keeper import NANO, Keeper

AUTOMATIC = AutomaticTopUp(threshold_nano=3 * NANO, amount_nano=5 * NANO, monthly_max_nano=2_000 * NANO)
CENT_NANO = 10**7


class Purse:
    """The wallet of one linked customer, open from the beginning, which its card fills."""

    def __init__(self, till: Till, customer: str, now: datetime) -> None:
        self.till, self.customer = till, customer
        self.keeper = Keeper(till.book, now=now, customer=customer)
        self.wallet = self.keeper.open(2 * NANO, "promotional")
        self.closed_at: datetime | None = None
        set_automatic(
            tenant_id=till.tenant_id, wallet_id=self.wallet.pk, automatic=AUTOMATIC, actor="test", now=now
        )

    def take(self, placed_at: datetime) -> bool:
        """Has a call of that time held on the wallet, if it was open; returns whether it is."""
        held = self.closed_at is None or placed_at < self.closed_at
        if held:
            self.till.book.wallets[self.customer] = self.wallet.pk
        else:
            self.till.book.wallets.pop(self.customer, None)
        return held

    def give(self, now: datetime) -> None:
        """A present."""
        self.keeper.now = now
        self.keeper.grant(NANO // 3, "promotional")

    def close(self, now: datetime) -> None:
        """Closes it: what is used from now on is on the invoice."""
        self.keeper.now, self.closed_at = now, now
        self.till.book.wallets[self.customer] = self.wallet.pk
        set_automatic(
            tenant_id=self.till.tenant_id, wallet_id=self.wallet.pk, automatic=None, actor="test", now=now
        )
        self.keeper.close()

    def work(self, now: datetime) -> None:
        """Burns and trues up what there is, and charges the card, as workers do."""
        while burn(now=now, tenant_id=self.till.tenant_id).entries:
            continue
        true_up_due(now=now, tenant_id=self.till.tenant_id)
        payments.begin_automatic(now=now)
        payments.charge_due(now=now)

    def check(self, charged_nano: int) -> int:
        """It has paid what its calls are charged, out of what the card and presents put in; returns the payments."""
        assert self.keeper.paid() == charged_nano, self.customer
        self.keeper.check()
        top_ups = TopUp.objects.filter(wallet_id=self.wallet.pk)
        paid = {
            ids.encode(ids.TOP_UP, row.pk): row.amount_nano for row in top_ups.filter(state=TopUpState.PAID)
        }
        taken = {
            each["metadata"][TOP_UP]: each["amount"] * CENT_NANO
            for each in self._intents()
            if each["status"] == "succeeded"
        }
        assert taken == paid
        bought = CreditGrant.objects.filter(wallet_id=self.wallet.pk, kind=CreditKind.PAID)
        assert sum(grant.amount_nano for grant in bought) == sum(paid.values())
        return len(paid)

    def _intents(self) -> list[dict[str, Any]]:
        wanted = self.till.link_of(self.customer).stripe_customer
        found = self.till.double.objects("payment_intent", key=self.till.key)
        return [each for each in found if each["customer"] == wanted and TOP_UP in (each["metadata"] or {})]
