"""Where the price book and a second source differ: every price that both state, one by one. Pure.

A model of the book is compared with the map's entry of exactly its name, or without one with all entries that the
book's pattern for it recognises. What only one of them states is not a difference where it is what the other charges
anyway: reasoning at the price of output, a batch price equal to the standard one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

from budgets.domain.pricing_book import DAY_MINUTES, Model, PriceBook, PriceEntry
from budgets.domain.pricing_litellm import MapEntry, PriceKey, PriceMap

TOLERANCE: Final = Decimal("0.01")
"""Two prices agree when they differ by at most this share of the smaller one."""

PPM: Final = 1_000_000

TIER_SLACK: Final = 40
"""Tiers are the same when their starts differ by at most a fortieth: 128,000 and 131,072 are both "128k"."""

WHOLE_OF: Final[Mapping[str, str]] = {
    "cache_read_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
    "cache_write_1h_tokens": "cache_write_tokens",
    "input_audio_tokens": "input_tokens",
    "cache_audio_read_tokens": "input_audio_tokens",
    "input_image_tokens": "input_tokens",
    "cache_image_read_tokens": "input_image_tokens",
    "input_video_tokens": "input_tokens",
    "output_reasoning_tokens": "output_tokens",
    "output_audio_tokens": "output_tokens",
    "output_image_tokens": "output_tokens",
    "output_video_tokens": "output_tokens",
    "output_citation_tokens": "output_tokens",
}
"""What a part without a price of its own is charged as (`pricing_rates`)."""


class Verdict(StrEnum):
    """What two sources say of one price."""

    AGREE = "agree"
    IMPLIED = "implied"
    """One states it, the other charges the same without saying so."""
    DISAGREE = "disagree"
    ZERO = "zero"
    """The map says zero where the book has a price: unknown there rather than free."""
    BOOK_ONLY = "book_only"
    MAP_ONLY = "map_only"


AGREED: Final = frozenset({Verdict.AGREE, Verdict.IMPLIED})


@dataclass(frozen=True)
class Finding:
    """One price of one model in both sources, in pico-USD; `entries` are the map's that say `map_pico`."""

    provider: str
    model: str
    variant: str
    unit: str
    tier_start: int
    verdict: Verdict
    book_pico: int | None
    map_pico: int | None
    entries: tuple[str, ...] = ()

    @property
    def key(self) -> PriceKey:
        """Variant, unit and start of tier."""
        return self.variant, self.unit, self.tier_start


@dataclass(frozen=True)
class Comparison:
    """All findings, and what could not be compared.

    `compared` are the models found in both, by provider; `book_models` those of a provider that the map sells models
    of, but not these; `map_entries` those of the map that the book does not know; `resold` those that the book prices
    as another provider's; `timed` models are priced by the time of day. `listed` are the names under which a seller
    has a model in the map today, and so a call may name it.
    """

    at: datetime
    findings: tuple[Finding, ...]
    compared: Mapping[str, tuple[str, ...]]
    book_models: Mapping[str, tuple[str, ...]]
    map_entries: Mapping[str, tuple[str, ...]]
    resold: Mapping[str, tuple[str, ...]]
    timed: Mapping[str, tuple[str, ...]]

    def counts(self) -> dict[str, Counter[Verdict]]:
        """Returns how many prices of each provider got which verdict."""
        found: dict[str, Counter[Verdict]] = {provider: Counter() for provider in self.compared}
        for finding in self.findings:
            found[finding.provider][finding.verdict] += 1
        return found

    def having(self, *verdicts: Verdict) -> list[Finding]:
        """Returns the findings with one of these verdicts."""
        return [finding for finding in self.findings if finding.verdict in verdicts]


def tolerance_ppm(tolerance: Decimal) -> int:
    """Returns a tolerance such as 0.01 in millionths. Raises ValueError unless it is from 0 to 1."""
    if not tolerance.is_finite() or not 0 <= tolerance <= 1:
        raise ValueError("must be from 0 to 1: 0.01 is one per cent")
    return int(tolerance * PPM)


def differ(one: int, other: int, ppm: int) -> bool:
    """Whether two prices are further apart than the tolerance. A zero differs from everything else."""
    return abs(one - other) * PPM > ppm * min(one, other)


def compare(
    book: PriceBook,
    prices: PriceMap,
    *,
    at: datetime,
    tolerance: Decimal = TOLERANCE,
    providers: Iterable[str] | None = None,
) -> Comparison:
    """Compares the prices of the book that are in force at a time with the map's. Raises ValueError for a tolerance."""
    ppm = tolerance_ppm(tolerance)
    wanted = prices.providers.intersection(book.providers if providers is None else providers)
    known: dict[tuple[str, str], list[MapEntry]] = {}
    unknown: dict[str, list[str]] = {provider: [] for provider in wanted}
    resold: dict[str, list[str]] = {provider: [] for provider in wanted}
    for entry in prices.entries:
        if entry.provider not in wanted:
            continue
        found = book.find(entry.provider, entry.name)
        if not isinstance(found, Model):
            unknown[entry.provider].append(entry.key)
        elif found.provider != entry.provider:
            resold[entry.provider].append(entry.key)
        else:
            known.setdefault((found.provider, found.entry.model), []).append(entry)
    findings: list[Finding] = []
    compared: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    timed: dict[str, list[str]] = {}
    for provider in sorted(wanted):
        compared[provider], alone[provider], timed[provider] = [], [], []
        for model in book.models(provider):
            name = model.entry.model
            active = in_force(model.entry.prices, at)
            entries = known.get((provider, name), [])
            entries = [e for e in entries if e.name.lower() == name.lower()] or entries
            if not active or not entries:
                alone[provider].append(name)
            elif by_the_clock(active) or any(entry.timed for entry in entries):
                timed[provider].append(name)
            else:
                compared[provider].append(name)
                findings += _findings(provider, name, stated(active), entries, ppm)
    return Comparison(
        at=at,
        findings=tuple(findings),
        compared=_fixed(compared),
        book_models=_fixed(alone),
        map_entries=_fixed(unknown),
        resold=_fixed(resold),
        timed=_fixed(timed),
    )


def _fixed(names: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {provider: tuple(sorted(names[provider])) for provider in sorted(names)}


def in_force(prices: Iterable[PriceEntry], at: datetime) -> list[PriceEntry]:
    """Returns the prices whose dates hold at a time, whatever the time of day."""
    return [
        price
        for price in prices
        if price.effective_from <= at and (price.effective_to is None or at < price.effective_to)
    ]


def by_the_clock(prices: Iterable[PriceEntry]) -> bool:
    """Whether one of these prices holds for a part of the day only."""
    return any(price.daily_to - price.daily_from != DAY_MINUTES for price in prices)


def stated(prices: Iterable[PriceEntry]) -> dict[PriceKey, int]:
    """Returns prices in pico-USD by what they are for."""
    return {(price.variant, price.unit, price.tier_start): price.pico for price in prices}


def charged(prices: Mapping[PriceKey, int], key: PriceKey) -> int | None:
    """Returns what a price list charges for something, whether or not it has a price of its own."""
    variant, unit, tier = key
    while True:
        for name in dict.fromkeys((variant, "")):
            starts = [start for v, u, start in prices if (v, u) == (name, unit) and start <= tier]
            if starts:
                return prices[name, unit, max(starts)]
        if unit not in WHOLE_OF:
            return None
        unit = WHOLE_OF[unit]


def _findings(
    provider: str, model: str, own: Mapping[PriceKey, int], entries: list[MapEntry], ppm: int
) -> Iterator[Finding]:
    quoted: dict[PriceKey, dict[int, list[str]]] = {}
    zeros: set[PriceKey] = set()
    for entry in entries:
        for key, pico in entry.prices.items():
            quoted.setdefault(_same_tier(key, own), {}).setdefault(pico, []).append(entry.key)
        zeros.update(_same_tier(key, own) for key in entry.zeros)
    # Of several entries the one that is furthest away speaks for the map: all must agree.
    theirs = {key: _furthest(said, charged(own, key) or 0) for key, said in quoted.items()}
    for key in sorted({*own, *theirs}):
        mine, other = own.get(key), theirs.get(key)
        if mine is not None and other is not None:
            verdict = Verdict.DISAGREE if differ(mine, other, ppm) else Verdict.AGREE
        elif mine is not None and key in zeros:
            verdict, other = (Verdict.AGREE if mine == 0 else Verdict.ZERO), 0
        else:
            states = mine if mine is not None else other
            effect = charged(theirs if mine is not None else own, key)
            implied = effect is not None and states is not None and not differ(effect, states, ppm)
            alone = Verdict.BOOK_ONLY if mine is not None else Verdict.MAP_ONLY
            verdict = Verdict.IMPLIED if implied else alone
        said = quoted.get(key, {}).get(other, []) if other is not None else []
        yield Finding(provider, model, *key, verdict, mine, other, tuple(sorted(said)))


def _furthest(said: Iterable[int], mine: int) -> int:
    return max(said, key=lambda pico: (abs(pico - mine), pico))


def _same_tier(key: PriceKey, own: Mapping[PriceKey, int]) -> PriceKey:
    """Returns the key with the start of the book's tier that means the same."""
    variant, unit, tier = key
    near = (
        start for _, _, start in own if start and tier and abs(start - tier) * TIER_SLACK <= max(start, tier)
    )
    return variant, unit, next(near, tier)
