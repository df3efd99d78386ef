"""A usage taken apart into disjoint counts, and what each of them costs: asked of settlement's own function.

Within one tier of one variant a cost is linear: so many tokens of each kind, each at its rate. The rates are not read
off the price book here but asked of `pricing.cost_pico`, one token at a time, so that there is one pricing alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from budgets.domain.pricing import cost_pico
from budgets.domain.pricing_rates import Rates, UnpricedUnit, Usage

PARTS: Final = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_cache_read",
    "output",
    "reasoning",
    "audio_output",
    "images",
)
"""The disjoint counts, in their order. `cache_write` is what lives five minutes; fees of tools and units are none."""

INPUT, READ, WRITE, WRITE_1H = 0, 1, 2, 3
TEXT_INPUT: Final = range(4)
INPUTS: Final = range(6)
OUTPUTS: Final = range(6, 9)
TOKENS: Final = range(9)

Parts = list[int]
UnitRates = tuple[int | None, ...]
"""Pico-USD for one of each part; None where there is no price."""

_ONES: Final = (
    Usage(input_tokens=1),
    Usage(input_tokens=1, cache_read_tokens=1),
    Usage(input_tokens=1, cache_write_tokens=1),
    Usage(input_tokens=1, cache_write_tokens=1, cache_write_1h_tokens=1),
    Usage(input_tokens=1, audio_input_tokens=1),
    Usage(input_tokens=1, cache_read_tokens=1, audio_input_tokens=1, units={"cache_audio_read_tokens": 1}),
    Usage(output_tokens=1),
    Usage(output_tokens=1, reasoning_tokens=1),
    Usage(output_tokens=1, audio_output_tokens=1),
    Usage(images=1),
)


def parts_of(usage: Usage) -> Parts:
    """Takes a usage apart; cached audio that nobody told is as little as the counts allow, as in a settlement."""
    reads, writes, audio = usage.cache_read_tokens, usage.cache_write_tokens, usage.audio_input_tokens
    cached = 0
    if audio:
        told = usage.units.get("cache_audio_read_tokens")
        cached = max(0, reads + writes + audio - usage.input_tokens) if told is None else told
    return [
        usage.input_tokens - reads - writes - audio + cached,
        reads - cached,
        writes - usage.cache_write_1h_tokens,
        usage.cache_write_1h_tokens,
        audio - cached,
        cached,
        usage.output_tokens - usage.reasoning_tokens - usage.audio_output_tokens,
        usage.reasoning_tokens,
        usage.audio_output_tokens,
        usage.images,
    ]


def uncached(usage: Usage) -> Usage:
    """The same usage without a cache: all of its input at the plain rate."""
    if not (usage.cache_read_tokens or usage.cache_write_tokens):
        return usage
    units = {name: count for name, count in usage.units.items() if not name.startswith("cache_")}
    return msgspec.structs.replace(
        usage, cache_read_tokens=0, cache_write_tokens=0, cache_write_1h_tokens=0, units=units
    )


def uncached_parts(parts: Sequence[int]) -> Parts:
    """The same for parts."""
    text = sum(parts[at] for at in TEXT_INPUT)
    return [text, 0, 0, 0, parts[4] + parts[5], 0, *parts[6:]]


def scaled(usage: Usage, factor: Decimal) -> Usage:
    """The same text as another tokenizer might count it. Totals are rounded up, parts down: they still fit."""
    over, under = factor.as_integer_ratio()

    def part(count: int) -> int:
        return count * over // under

    def total(count: int) -> int:
        return -(-count * over // under)

    return msgspec.structs.replace(
        usage,
        input_tokens=total(usage.input_tokens),
        output_tokens=total(usage.output_tokens),
        cache_read_tokens=part(usage.cache_read_tokens),
        cache_write_tokens=part(usage.cache_write_tokens),
        cache_write_1h_tokens=part(usage.cache_write_1h_tokens),
        reasoning_tokens=part(usage.reasoning_tokens),
        audio_input_tokens=part(usage.audio_input_tokens),
        audio_output_tokens=part(usage.audio_output_tokens),
        units={
            name: part(count) if name.endswith("_tokens") else count for name, count in usage.units.items()
        },
    )


def variant_of(rates: Rates, service_tier: str | None) -> Rates:
    """The rates of a service tier, the standard ones if it has none of its own: as `cost_pico` chooses."""
    return rates.variants.get(service_tier, rates) if service_tier else rates


class Flats:
    """Rates of one tier each, with what one of each part costs. Kept, since many calls share them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str | None, int], Flat] = {}

    def of(self, rates: Rates, service_tier: str | None, input_tokens: int) -> Flat:
        """The rates that `cost_pico` takes for a call of so many input tokens."""
        chosen = variant_of(rates, service_tier)
        tier = bisect_left(chosen.starts, input_tokens) if chosen.starts else 0
        key = id(rates), chosen.variant, tier
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Flat(rates, chosen, tier)
        return kept


class Flat:
    """One tier of one variant of a model's rates."""

    __slots__ = ("per_request", "rates", "source", "tier", "unit")

    def __init__(self, source: Rates, chosen: Rates, tier: int) -> None:
        self.source = source
        self.tier = tier
        self.rates = msgspec.structs.replace(
            chosen, starts=(), tiers=(chosen.tiers[tier],), ceilings=(chosen.ceilings[tier],), variants={}
        )
        self.per_request = cost_pico(self.rates, Usage())
        self.unit: UnitRates = tuple(self._one(one) for one in _ONES)

    def _one(self, usage: Usage) -> int | None:
        try:
            return cost_pico(self.rates, usage) - self.per_request
        except UnpricedUnit:
            return None

    def pico(self, parts: Sequence[int], *, which: Sequence[int] = range(len(PARTS))) -> int:
        """What parts cost in pico-USD, without fees. Raises UnpricedUnit."""
        total = 0
        for at in which:
            if count := parts[at]:
                rate = self.unit[at]
                if rate is None:
                    raise UnpricedUnit(self.rates, [PARTS[at]])
                total += count * rate
        return total

    def rate(self, at: int) -> Fraction:
        """Pico-USD for one of a part, nothing where it has no price."""
        return Fraction(self.unit[at] or 0)
