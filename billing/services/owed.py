"""What a customer owes for whole hours of a period over Stripe: the one place where the outbox asks the rate cards.

That is its charge, less the part of it that its wallet pays: cumulative as both are, so a wallet that is opened or closed
within the period, late settlements and re-ratings come out of the next difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.queries.rate_cards import cards_of
from billing.services.charges import customer_named, period_charges
from billing.services.wallet_shares import NOTHING, share_of_wallet, wallet_of


@dataclass(frozen=True, slots=True)
class Owed:
    """Nano-USD owed for [starts_at, until) over Stripe, presumed spending left out; `wallet_nano` is paid by the wallet.

    `complete`: everything that was recorded before `until` is in both; else more may come at any moment.
    """

    nano: int
    complete: bool
    wallet_nano: int = 0


class Debtor:
    """One customer, of whom several times are asked for: its cards and its wallet are read once.

    Made for one look, and not kept: cards change. Raises CustomerNotFound.
    """

    def __init__(self, *, tenant_id: UUID, customer_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.name = customer_named(tenant_id=tenant_id, customer_id=customer_id)
        self._cards = cards_of(tenant_id=tenant_id, customers=[self.name])
        self._wallet = wallet_of(tenant_id=tenant_id, customer=self.name)

    def owed(self, *, starts_at: datetime, until: datetime, whole: bool, now: datetime) -> Owed:
        """Returns what is owed from a period's start until `until`; `whole`: that is its end, so its minimum counts.

        Raises InvalidPeriod for hours that are no longer kept.
        """
        charge = period_charges(
            tenant_id=self.tenant_id,
            customers=[self.name],
            starts_at=starts_at,
            until=until,
            now=now,
            final=whole,
            cards=self._cards,
        )[self.name]
        share = NOTHING
        if self._wallet is not None:
            share = share_of_wallet(self._wallet, charge=charge, starts_at=starts_at, until=until)
        through = charge.complete_through
        complete = through is not None and through >= until and share.complete
        return Owed(charge.total_nano - share.paid_nano, complete, share.paid_nano)


def owed(
    *, tenant_id: UUID, customer_id: UUID, starts_at: datetime, until: datetime, whole: bool, now: datetime
) -> Owed:
    """Returns what one customer owes for one time, as `Debtor.owed`."""
    debtor = Debtor(tenant_id=tenant_id, customer_id=customer_id)
    return debtor.owed(starts_at=starts_at, until=until, whole=whole, now=now)
