"""Whether the price book makes sense by itself: what cannot be used, what looks absurd, what nobody looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations, pairwise
from typing import Final

from budgets.domain.pricing_book import DAY_MINUTES, Model, PriceBook, PriceEntry
from budgets.domain.pricing_differences import WHOLE_OF, by_the_clock, in_force
from budgets.domain.pricing_import import LEAP
from budgets.domain.pricing_rates import OUTPUT_UNITS, Rates
from noburn.kit.money import pico_to_usd

CHEAP_OUTPUT: Final = 100
"""Output that costs less than this part of the input is a typing error: per token instead of per thousand."""


class Kind(StrEnum):
    """What a check found. Those in ERRORS make calls be priced wrongly, or not at all; the others want a look."""

    OVERLAP = "overlap"
    UNUSABLE = "unusable"
    HALF = "half_priced"
    GAP = "gap"
    UNPRICED = "unpriced"
    FREE = "free"
    CHEAP_OUTPUT = "cheap_output"
    DEAR_CACHE = "dear_cache"
    DEAR_BATCH = "dear_batch"
    LEAP = "leap"
    NO_WINDOW = "no_window"
    UNCHECKED = "unchecked"
    BY_POLICY = "by_policy"


ERRORS: Final = frozenset({Kind.OVERLAP, Kind.UNUSABLE, Kind.HALF})

MEANING: Final[Mapping[Kind, str]] = {
    Kind.OVERLAP: "two prices of the same thing at once",
    Kind.UNUSABLE: "prices that cannot be used together, so the model has none",
    Kind.HALF: "input or output without a standard price, though it has one in a variant or at another time",
    Kind.GAP: "a time without a price between two prices",
    Kind.UNPRICED: "models without a price in force",
    Kind.FREE: "prices of zero",
    Kind.CHEAP_OUTPUT: f"output cheaper than a {CHEAP_OUTPUT}th of input",
    Kind.DEAR_CACHE: "reading a cache dearer than plain input",
    Kind.DEAR_BATCH: "batch or flex dearer than standard",
    Kind.LEAP: f"a price more than {LEAP} times the one before, or less than a {LEAP}th of it",
    Kind.NO_WINDOW: "priced models for text whose context window is unknown",
    Kind.UNCHECKED: "models whose source nobody has looked at for long",
    Kind.BY_POLICY: "models that calls were settled for without a price in the book",
}


@dataclass(frozen=True, order=True)
class Flaw:
    """One thing to look at."""

    kind: Kind
    provider: str
    model: str
    detail: str = ""


def flaws(
    book: PriceBook, *, now: datetime, checked: Mapping[int, datetime], stale: timedelta
) -> Iterator[Flaw]:
    """Yields what is wrong with a book, or looks so. `checked` says by row when its source was last looked at."""
    for provider in book.providers:
        for model in book.models(provider):
            name = model.entry.model
            for kind, detail in _of(model, now, checked, stale):
                yield Flaw(kind, provider, name, detail)


def _of(
    model: Model, now: datetime, checked: Mapping[int, datetime], stale: timedelta
) -> Iterator[tuple[Kind, str]]:
    entry = model.entry
    yield from _rows(entry.prices)
    active = in_force(entry.prices, now)
    rates = model.rates(now)
    if rates is None:
        if active and not by_the_clock(active):
            yield Kind.UNUSABLE, ", ".join(sorted({price.unit for price in active}))
        elif not active and not entry.deprecated:
            yield Kind.UNPRICED, ""
        return
    yield from _rates(rates)
    yield from _half(rates, entry.prices)
    for price in active:
        if price.pico == 0 and not entry.model.endswith(":free"):
            yield Kind.FREE, _what(price)
    if entry.offered and not entry.deprecated and entry.context_window is None and _is_text(rates):
        yield Kind.NO_WINDOW, ""
    seen = [checked[price.price_id] for price in active if price.price_id in checked]
    if seen and min(seen) < now - stale:
        yield Kind.UNCHECKED, f"since {min(seen):%Y-%m-%d}"


def _rows(prices: Iterable[PriceEntry]) -> Iterator[tuple[Kind, str]]:
    by_key: dict[tuple[str, str, int], list[PriceEntry]] = {}
    for price in prices:
        by_key.setdefault((price.variant, price.unit, price.tier_start), []).append(price)
    for rows in by_key.values():
        rows.sort(key=lambda row: (row.effective_from, row.daily_from))
        for one, other in combinations(rows, 2):
            if _at_once(one, other):
                yield Kind.OVERLAP, f"{_what(one)}: rows {one.price_id} and {other.price_id}"
        if by_the_clock(rows):
            continue
        for before, after in pairwise(rows):
            if before.effective_to is not None and before.effective_to < after.effective_from:
                gap = f"{before.effective_to:%Y-%m-%d %H:%M} to {after.effective_from:%Y-%m-%d %H:%M}"
                yield Kind.GAP, f"{_what(after)}: {gap}"
            if max(before.pico, after.pico) > LEAP * min(before.pico, after.pico):
                change = f"{pico_to_usd(before.pico)} to {pico_to_usd(after.pico)} USD"
                yield Kind.LEAP, f"{_what(after)}: {change} on {after.effective_from:%Y-%m-%d}"


def _at_once(one: PriceEntry, other: PriceEntry) -> bool:
    return (
        (one.effective_to is None or other.effective_from < one.effective_to)
        and (other.effective_to is None or one.effective_from < other.effective_to)
        and one.daily_from < other.daily_to
        and other.daily_from < one.daily_to
    )


def _rates(rates: Rates) -> Iterator[tuple[Kind, str]]:
    for each in (rates, *rates.variants.values()):
        variant = each.variant or "standard"
        for tier in each.tiers:
            where = variant + (f" above {tier.start} input tokens" if tier.start else "")
            if each.prices_input and each.prices_output and tier.output * CHEAP_OUTPUT < tier.input:
                yield (
                    Kind.CHEAP_OUTPUT,
                    f"{where}: {_million(tier.output)} after {_million(tier.input)} a million",
                )
            if each.prices_input and tier.cache_read > tier.input:
                yield (
                    Kind.DEAR_CACHE,
                    f"{where}: {_million(tier.cache_read)} after {_million(tier.input)} a million",
                )
    for name in ("batch", "flex"):
        slow = rates.variants.get(name)
        if slow is not None:
            dearer = [
                unit
                for unit, pairs in slow.units.items()
                if unit in rates.units and pairs[0][1] > rates.units[unit][0][1]
            ]
            if dearer:
                yield Kind.DEAR_BATCH, f"{name}: {', '.join(sorted(dearer))}"


def _half(rates: Rates, prices: Iterable[PriceEntry]) -> Iterator[tuple[Kind, str]]:
    """A whole without a price although some row, of another time or a variant, prices it, or a part of it."""
    units = {price.unit for price in prices} | set(rates.units)
    for priced, whole in ((rates.prices_input, "input_tokens"), (rates.prices_output, "output_tokens")):
        if not priced and (
            whole in units or (whole == "output_tokens" and "output_reasoning_tokens" in units)
        ):
            yield Kind.HALF, f"{whole} has no standard price now"


def _is_text(rates: Rates) -> bool:
    """Whether it takes and gives tokens of text alone; what speaks or paints has other limits than a window."""
    parts = {unit for unit in rates.units if unit in OUTPUT_UNITS and unit in WHOLE_OF}
    return rates.prices_input and rates.prices_output and parts <= {"output_reasoning_tokens"}


def _what(price: PriceEntry) -> str:
    tier = f" above {price.tier_start}" if price.tier_start else ""
    hours = "" if price.daily_to - price.daily_from == DAY_MINUTES else " by the time of day"
    return f"{price.variant or 'standard'} {price.unit}{tier}{hours}"


def _million(pico: int) -> str:
    return pico_to_usd(pico, units=10**6)
