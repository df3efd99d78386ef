"""The price of a settled call: by which rates, what it costs at them, and whose word the cost is.

A settlement, a comparison and a re-rating ask the same two questions, so they are answered here alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from budgets.domain.pricing import cost_nano
from budgets.domain.pricing_book import DAY_MINUTES, Model, PriceBook
from budgets.domain.pricing_overrides import TenantPrices, override_of
from budgets.domain.pricing_rates import Rates, UnpricedUnit, Usage

DAY = timedelta(days=1)


class CostOrigin(StrEnum):
    """Whose word a recorded cost is. Only what noburn priced may be priced again."""

    PRICED = "priced"
    TOLD = "told"
    """`cost_usd` of the settlement: what the caller knows to have been billed."""

    ESTIMATED = "estimated"
    """No price was known: the pre-flight's own estimate was posted."""


def settled_rates(
    book: PriceBook,
    prices: TenantPrices | None,
    *,
    provider: str,
    asked: str,
    reported: str,
    price_name: str,
    at: datetime,
) -> Rates | None:
    """Returns the rates of a call whose hold was priced by `price_name` and placed at `at`; None without a price.

    Those of the model that answered, if it is known, else of the one that was asked for; a negotiated price goes by the
    hold's name for it. A hold that had a price although its model had none was priced by the dearest of its family.
    """
    if prices is not None:
        own = prices.settled(book, price_name, provider=provider, asked=asked, reported=reported, at=at)
        if own is not None:
            return own
    listed = listed_rates(book, provider=provider, asked=asked, reported=reported, at=at)
    if listed is not None or not price_name:
        return listed
    dearest = book.dearest(provider or None, asked, at)
    return dearest if isinstance(dearest, Rates) else None


def listed_rates(book: PriceBook, *, provider: str, asked: str, reported: str, at: datetime) -> Rates | None:
    """Returns the price book's own rates for the model that answered, else for the one that was asked for."""
    for model in (reported, asked):
        if model and isinstance(found := book.resolve(provider or None, model, at), Rates):
            return found
    return None


def rates_as_of(
    book: PriceBook,
    prices: TenantPrices,
    *,
    provider: str,
    asked: str,
    reported: str,
    price_name: str,
    placed_at: datetime,
    as_of: datetime,
) -> Rates | None:
    """Returns the rates that a call would have had, had it been placed at `as_of` at its own time of the day.

    `price_name` is what its hold was priced by: it says whether a model without a price may have the dearest one.
    """
    at = as_of
    for model in (reported, asked):
        found = book.find(provider or None, model) if model else None
        if isinstance(found, Model) and _goes_by_the_day(found, as_of):
            at = _at_the_same_time(placed_at, as_of)
            break
    held = prices.resolve(book, provider or None, asked, at)
    # Without a price then, only a hold that had the dearest one may have it again: not one with a negotiated price.
    name = held.name if isinstance(held, Rates) else "" if override_of(price_name) else price_name
    return settled_rates(
        book, prices, provider=provider, asked=asked, reported=reported, price_name=name, at=at
    )


def named_rates(
    book: PriceBook, prices: TenantPrices, *, provider: str, asked: str, reported: str, name: str
) -> Iterator[Rates]:
    """Returns the rates of a call's models that are called `name`, whenever they were in force."""
    rule = prices.named(override_of(name))
    for model in dict.fromkeys((reported, asked)):
        found = book.find(provider or None, model) if model else None
        bases = [period.rates for period in found.periods] if isinstance(found, Model) else [None]
        for base in bases:
            rates = base if rule is None else prices.lay(rule, base, model.lower())
            if rates is not None and rates.name == name:
                yield rates


def settled_cost(rates: Rates, usage: Usage, *, held_nano: int) -> tuple[int, UnpricedUnit | None]:
    """Returns the cost of a settled call in nano-USD, and what of its usage has no price.

    With such a count it is at least the hold: never nothing, never lost. Raises BadUsage, CostTooLarge, and UnpricedUnit
    where even its tokens have no price.
    """
    try:
        return cost_nano(rates, usage), None
    except UnpricedUnit as error:
        rest = msgspec.structs.replace(usage, images=0, tool_calls={}, units={})
        return max(held_nano, cost_nano(rates, rest)), error


def _goes_by_the_day(model: Model, at: datetime) -> bool:
    return any(
        period.daily_to - period.daily_from < DAY_MINUTES
        for period in model.periods
        if period.effective_from <= at and (period.effective_to is None or at < period.effective_to)
    )


def _at_the_same_time(placed_at: datetime, as_of: datetime) -> datetime:
    """The first moment from `as_of` on at which a clock shows what it showed when the call was placed."""
    of_day = placed_at.astimezone(UTC).time()
    at = datetime.combine(as_of.astimezone(UTC).date(), of_day, UTC)
    return at if at >= as_of else at + DAY
