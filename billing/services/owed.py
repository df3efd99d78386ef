"""What a customer owes for whole hours of a period: the one place where the outbox asks the rate cards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.services.charges import period_charge


@dataclass(frozen=True, slots=True)
class Owed:
    """Nano-USD owed for [starts_at, until), presumed spending left out.

    `complete`: everything that was recorded before `until` is in it; else more may come at any moment.
    """

    nano: int
    complete: bool


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
    through = charge.complete_through
    return Owed(charge.total_nano, through is not None and through >= until)
