"""A tenant with customers that pay beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.domain.rate_card_reading import read_terms
from billing.models import CreditGrant, JournalLine, Wallet
from billing.services import wallet_charges
from billing.services.burning import Burnt, burn, lapse_all
from billing.services.wallet_checks import check_wallets
from billing.services.wallets import NewGrant, create_wallet, grant_credit, void_grant
from budgets.domain.charging import ChargeRules
from budgets.services.wallet_limits import set_charges
from tests.support.world import Account, usd

Terms = dict[str, Any]


@dataclass
class Desk:
    """A tenant's wallets, and a clock to move. `terms` is the card of all its customers; None: they pay the cost."""

    account: Account
    now: datetime
    terms: Terms | None = None

    @property
    def tenant_id(self) -> Any:
        return self.account.tenant_id

    def card(self, **terms: Any) -> None:
        """Lets everybody be charged by these terms, as a default card would."""
        self.terms = terms
        table = wallet_charges._table(read_terms(terms))
        rules = ChargeRules(tables=(table,), default=(0,))
        set_charges(tenant_id=self.tenant_id, rules=rules, now=self.now)

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
        charges = wallet_charges.charges_of
        if self.terms is not None:
            terms = read_terms(self.terms)

            def by_card(_tenant: Any, calls: Any) -> list[int]:
                return [wallet_charges.charge_of(terms, call) for call in calls]

            charges = by_card
        return burn(now=self.now, charges=charges, tenant_id=self.tenant_id)

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
    for account, amount in JournalLine.objects.filter(wallet_id=wallet.pk).values_list("account", "amount_nano"):
        sums[account] = sums.get(account, 0) + amount
    return {account: amount for account, amount in sums.items() if amount}
