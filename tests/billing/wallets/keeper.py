"""A customer's wallet over months that are over: calls booked as a gateway does, burnt, summed and trued up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from billing.domain.charging import Charge
from billing.domain.pushing import closed_until, next_close
from billing.domain.rate_card_reading import read_terms
from billing.domain.rate_cards import Terms
from billing.models import CreditGrant, JournalPosting, Wallet, WalletTrueUp
from billing.services.burning import burn
from billing.services.charges import period_charges
from billing.services.owed import Owed, owed
from billing.services.rate_cards import NewVersion, assign_card, create_rate_card
from billing.services.true_ups import true_up_due
from billing.services.wallet_checks import check_wallets
from billing.services.wallets import NewGrant, close_wallet, create_wallet, grant_credit
from tenants.services.customers import ensure_customer
from tests.billing.book import Book
from tests.billing.push.till import EARLIER, NEXT, START

NANO = 10**9
COUNTER = """INSERT INTO counters (tenant_id, counter_id, budget_id, subject, starts_at, limit_amount, budget_version,
    spent, opening) VALUES (%s, %s, %s, %s, %s, 0, 1, 0, 0)"""


@dataclass
class Keeper:
    """One customer's card, wallet and calls, and a clock to move."""

    book: Book
    now: datetime = START
    customer: str = field(default_factory=lambda: uuid4().hex)

    @property
    def tenant_id(self) -> UUID:
        return self.book.tenant_id

    def card(self, terms: Terms | Mapping[str, Any]) -> None:
        """A card of the customer's own, from long ago."""
        made, _ = create_rate_card(
            tenant_id=self.tenant_id,
            name=uuid4().hex,
            version=NewVersion(terms=terms if isinstance(terms, Terms) else read_terms(dict(terms))),
            actor="test",
            now=EARLIER,
        )
        assign_card(
            tenant_id=self.tenant_id,
            card_id=made.pk,
            customers=[self.customer],
            effective_from=EARLIER,
            actor="test",
            now=EARLIER,
        )

    def open(self, amount_nano: int = 0, kind: str = "paid") -> Wallet:
        """Makes the wallet, or opens it again: calls are held on it from now on."""
        made = create_wallet(tenant_id=self.tenant_id, customer=self.customer, actor="test", now=self.now)
        with self.book.owner.transaction():
            self.book.owner.execute(
                f"{COUNTER} ON CONFLICT DO NOTHING",
                [self.tenant_id, made.pk, made.wallets_id, self.customer, self.now],
            )
        self.book.wallets[self.customer] = made.pk
        if amount_nano:
            self.grant(amount_nano, kind)
        return made

    def close(self) -> None:
        """Closes the wallet: later calls are held on nothing in it."""
        del self.book.wallets[self.customer]
        close_wallet(tenant_id=self.tenant_id, wallet_id=self.wallet.pk, actor="test", now=self.now)

    def grant(self, amount_nano: int, kind: str = "paid") -> CreditGrant:
        """Gives credit."""
        return grant_credit(
            tenant_id=self.tenant_id,
            wallet_id=self.wallet.pk,
            grant=NewGrant(kind=kind, amount_nano=amount_nano),
            actor="test",
            now=self.now,
        )

    @property
    def wallet(self) -> Wallet:
        """The wallet as it stands."""
        return Wallet.objects.get(tenant_id=self.tenant_id, customer=self.customer)

    def call(self, cost_nano: int, *, usage: Mapping[str, Any] | None = None, **what: Any) -> UUID:
        """A call that is placed and settled now."""
        return self.book.call(self.customer, self.now, cost_nano=cost_nano, usage=usage, **what)

    def work(self, until: datetime | None = None) -> int:
        """Sums and burns everything, and trues up what is due, as workers do until a time; returns postings."""
        before = len(self.postings())
        self.now = max(self.now, until or self.now)
        self.book.roll()
        while burn(now=self.now, tenant_id=self.tenant_id).entries:
            pass
        true_up_due(now=self.now, tenant_id=self.tenant_id)
        return len(self.postings()) - before

    def end(self) -> int:
        """What is done when the month is over, its last window closed, and everything burnt and compared."""
        Wallet.objects.filter(tenant_id=self.tenant_id).update(true_up_at=self.now)
        return self.work(next_close(NEXT))

    def paid(self) -> int:
        """What the wallet has paid: the credit that was given, less what is left of it."""
        wallet = self.wallet
        grants = CreditGrant.objects.filter(tenant_id=self.tenant_id, wallet_id=wallet.pk)
        return sum(grant.amount_nano - grant.remaining_nano for grant in grants) + wallet.owed_nano

    def charge(self, *, final: bool = False) -> Charge:
        """What the month so far costs by the card, up to the last closed hour."""
        return period_charges(
            tenant_id=self.tenant_id,
            customers=[self.customer],
            starts_at=START,
            until=min(closed_until(self.now), NEXT),
            now=self.now,
            final=final,
        )[self.customer]

    def over_stripe(self, *, whole: bool = False) -> Owed:
        """What of it is owed over Stripe."""
        customer, _ = ensure_customer(
            tenant_id=self.tenant_id, external_id=self.customer, actor="test", now=EARLIER
        )
        return owed(
            tenant_id=self.tenant_id,
            customer_id=customer.pk,
            starts_at=START,
            until=min(closed_until(self.now), NEXT),
            whole=whole,
            now=self.now,
        )

    def postings(self) -> list[JournalPosting]:
        """The wallet's true-ups in the journal."""
        return list(
            JournalPosting.objects.filter(
                tenant_id=self.tenant_id, wallet__customer=self.customer, kind="true_up"
            ).order_by("pk")
        )

    def returned(self) -> int:
        """What went back, of all periods."""
        rows = WalletTrueUp.objects.filter(tenant_id=self.tenant_id, wallet__customer=self.customer)
        return sum(row.returned_nano for row in rows)

    def check(self) -> None:
        """Every figure of the tenant's wallets is what its sources say."""
        assert check_wallets(tenant_id=self.tenant_id) == []

    def later(self, **much: float) -> None:
        """Moves the clock on."""
        self.now += timedelta(**much)
