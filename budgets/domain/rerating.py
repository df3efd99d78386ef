"""Which settled calls may get another cost, and which they get. Pure; docs/rerating.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import PricingError, Usage
from budgets.domain.pricing_settled import CostOrigin, rates_as_of, settled_cost, settled_rates

CALLS_MAX: Final = 500_000
"""The most calls of one re-rating; a longer period is re-rated in parts."""

GROUPS_MAX: Final = 100
"""The most models, and customers, of which a preview shows the difference: those that it is largest for."""

DAYS_MAX: Final = 400
REASON_CHARS_MAX: Final = 500


class LeftOut(StrEnum):
    """Why a call keeps its cost."""

    TOLD = "told"
    """Its caller told the cost."""

    ESTIMATED = "estimated"
    """No price was known, so its pre-flight's own estimate was posted."""

    UNKNOWN_ORIGIN = "unknown_origin"
    """Recorded by a release that did not note whose word a cost is."""

    PRESUMED = "presumed"
    """Nobody has settled it yet; a late settlement is priced as any other."""

    NOT_COUNTED = "not_counted"
    """Nothing is known of what it used."""

    UNPRICED = "unpriced"
    """Its model, or something that it used, has no price at these prices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenCall:
    """A call as it stands in the ledger. `cost_nano` is what it costs now, `price_name` what its hold was priced by."""

    hold_id: UUID
    revision: int
    settled: bool
    placed_at: datetime
    origin: str | None
    provider: str
    asked: str
    reported: str
    price_name: str
    usage: Usage | None
    held_nano: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class Repriced:
    """What a call costs at other prices, and the name of the rates that say so."""

    cost_nano: int
    price_name: str


def repriced(
    call: SeenCall, *, book: PriceBook, prices: TenantPrices, prices_at: datetime | None
) -> Repriced | LeftOut:
    """Returns what a call costs at other prices, or why it keeps its cost.

    The prices are those of a call placed at `prices_at`; None: when it was placed, by the book as it is now.
    """
    if not call.settled:
        return LeftOut.PRESUMED
    if call.origin != CostOrigin.PRICED:
        return LeftOut(call.origin) if call.origin else LeftOut.UNKNOWN_ORIGIN
    if call.usage is None:
        return LeftOut.NOT_COUNTED
    if prices_at is None:
        rates = settled_rates(
            book,
            prices,
            provider=call.provider,
            asked=call.asked,
            reported=call.reported,
            price_name=call.price_name,
            at=call.placed_at,
        )
    else:
        rates = rates_as_of(
            book,
            prices,
            provider=call.provider,
            asked=call.asked,
            reported=call.reported,
            price_name=call.price_name,
            placed_at=call.placed_at,
            as_of=prices_at,
        )
    if rates is None:
        return LeftOut.UNPRICED
    try:
        cost_nano, unpriced = settled_cost(rates, call.usage, held_nano=call.held_nano)
    except PricingError:
        return LeftOut.UNPRICED
    # "At least the hold" is a makeshift: it replaces no cost that was reckoned from prices.
    return Repriced(cost_nano, rates.name) if unpriced is None else LeftOut.UNPRICED
