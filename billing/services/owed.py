"""What a customer owes for whole hours of a period over Stripe: the one place where the outbox asks the rate cards.

That is its charge, less the part of it that its wallet pays: cumulative as both are, so a wallet that is opened or closed
within the period, late settlements and re-ratings come out of the next difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.services.charges import period_charge
from billing.services.wallet_shares import share_in


@dataclass(frozen=True, slots=True)
class Owed:
    """Nano-USD owed for [starts_at, until) over Stripe, presumed spending left out; `wallet_nano` is paid by the wallet.

    `complete`: everything that was recorded before `until` is in both; else more may come at any moment.
    """

    nano: int
    complete: bool
    wallet_nano: int = 0


def owed(
    *, tenant_id: UUID, customer_id: UUID, starts_at: datetime, until: datetime, whole: bool, now: datetime
) -> Owed:
    """Returns what is owed from a period's start until `until`; `whole`: that is its end, so its minimum counts.

    Raises InvalidPeriod for hours that are no longer kept.
    """
    charge = period_charge(
        tenant_id=tenant_id,
        customer_id=customer_id,
        starts_at=starts_at,
        until=until,
        now=now,
        final=whole,
    )
    share = share_in(
        tenant_id=tenant_id, customer_id=customer_id, charge=charge, starts_at=starts_at, until=until
    )
    through = charge.complete_through
    complete = through is not None and through >= until and share.complete
    return Owed(charge.total_nano - share.paid_nano, complete, share.paid_nano)
