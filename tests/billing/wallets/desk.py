"""A tenant with customers that pay beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from billing.domain.card_timelines import start_of_hour
from billing.domain.rate_card_reading import read_terms
from billing.models import CreditGrant, JournalLine, Wallet
from billing.services.burning import Burnt, burn, lapse_all
from billing.services.rate_cards import NewVersion, assign_card, create_rate_card
from billing.services.wallet_checks import check_wallets
from billing.services.wallets import NewGrant, create_wallet, grant_credit, void_grant
from tests.support.world import Account, usd


@dataclass
class Desk:
    """A tenant's wallets, and a clock to move."""

    account: Account
    now: datetime

    @property
    def tenant_id(self) -> Any:
        return self.account.tenant_id

    def card(self, **terms: Any) -> None:
        """A rate card for everybody, from long ago; without one customers pay the cost."""
        earlier = start_of_hour(self.now) - timedelta(days=1)
        made, _ = create_rate_card(
            tenant_id=self.tenant_id,
            name=uuid4().hex,
            version=NewVersion(terms=read_terms(terms), effective_from=earlier),
            actor="test",
            now=earlier,
        )
        assign_card(
            tenant_id=self.tenant_id,
            card_id=made.pk,
            customers=None,
            effective_from=earlier,
            actor="test",
            now=earlier,
        )

    def wallet(self, customer: str = "acme") -> Wallet:
        """Makes a wallet."""
        return create_wallet(tenant_id=self.tenant_id, customer=customer, actor="test", now=self.now)

    def grant(self, wallet: Wallet, amount: str, kind: str = "paid", **fields: Any) -> CreditGrant:
        """Gives credit; `ends_in` is a time from now on."""
        if (ends_in := fields.pop("ends_in", None)) is not None:
            fields["expires_at"] = self.now + ends_in
        return grant_credit(
            tenant_id=self.tenant_id,
            wallet_id=wallet.pk,
            grant=NewGrant(kind=kind, amount_nano=usd(amount), **fields),
            actor="test",
            now=self.now,
        )

    def void(self, grant: CreditGrant) -> CreditGrant:
        """Takes credit back."""
        return void_grant(
            tenant_id=self.tenant_id,
            wallet_id=grant.wallet_id,
            grant_id=grant.pk,
            reason="a mistake",
            actor="test",
            now=self.now,
        )

    def burn(self) -> Burnt:
        """Burns what this tenant's calls have used."""
        return burn(now=self.now, tenant_id=self.tenant_id)

    def later(self, **time: float) -> None:
        """Moves billing's clock."""
        self.now += timedelta(**time)

    def lapse(self) -> int:
        """Ends what has lapsed."""
        return lapse_all(now=self.now)

    def left(self, *grants: CreditGrant) -> list[int]:
        """What grants have left, in nano-USD."""
        found = dict(
            CreditGrant.objects.filter(pk__in=[g.pk for g in grants]).values_list("pk", "remaining_nano")
        )
        return [found[grant.pk] for grant in grants]

    def journal(self, wallet: Wallet) -> dict[str, int]:
        """The accounts of a wallet that are not nothing."""
        return journal_of(wallet)

    def check(self) -> None:
        """Every figure is what its sources say, here and in the escrow."""
        assert check_wallets(tenant_id=self.tenant_id) == []
        assert not self.account.verify().differences


def journal_of(wallet: Wallet) -> dict[str, int]:
    """The accounts of a wallet that are not nothing, in nano-USD."""
    sums: dict[str, int] = {}
    for account, amount in JournalLine.objects.filter(wallet_id=wallet.pk).values_list(
        "account", "amount_nano"
    ):
        sums[account] = sums.get(account, 0) + amount
    return {account: amount for account, amount in sums.items() if amount}
