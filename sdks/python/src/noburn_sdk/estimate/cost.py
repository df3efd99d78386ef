"""The most that a call can cost, from the prices that `GET /v1/prices` lists: what the server's hold will be.

The server decides; this is for those who want to know before they ask. Both are held to the same vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

from noburn_sdk.errors import InvalidRequestError

Units = Mapping[str, Sequence[tuple[int, int]]]
"""Prices in pico-USD by unit: (tier start, price) pairs, the first of them at 0."""

PRIORITY_FACTOR = 5, 2
"""A faster tier without a price of its own is bounded by two and a half times the dearest that is known."""

_STANDARD = frozenset({"", "default", "standard", "on_demand"})
_SLOWER = frozenset({"batch", "flex"})
_TOOLS = {
    "web_search": "web_searches",
    "social_search": "social_searches",
    "storage_search": "storage_searches",
    "file_search": "storage_searches",
    "code_execution": "code_executions",
}
_HEARD_AND_SEEN = ("input_audio_tokens", "input_image_tokens", "input_video_tokens")
_SPOKEN_AND_DRAWN = ("output_audio_tokens", "output_image_tokens", "output_video_tokens")


class UnpricedError(ValueError):
    """Something is used that the model has no price for; it is never charged as zero."""


@dataclass(frozen=True)
class Rates:
    """The prices of one model, and those in which its service tiers differ."""

    model: str
    units: Units
    variants: Mapping[str, Units] = field(default_factory=dict)
    context_window: int | None = None


def rates_from(prices: Mapping[str, Any], model: str, *, provider: str | None = None) -> Rates:
    """Reads a model's prices from what `Noburn.prices` returns.

    Where prices differ by the time of day the dearest counts. Raises InvalidRequestError for a model that is
    not listed, or listed by several providers while none is named.
    """
    wanted = model.lower()
    items = [
        item
        for item in prices.get("prices", ())
        if str(item.get("model")).lower() == wanted and provider in (None, item.get("provider"))
    ]
    if len({item.get("provider") for item in items}) != 1:
        message = "is sold by several providers; name one" if items else "has no price in this list"
        raise InvalidRequestError("No rates", errors={"model": message})
    units: dict[str, Units] = {}
    for item in items:
        found = {unit: _pairs(price) for unit, price in item["prices"].items()}
        variant = "" if item.get("variant") == "standard" else str(item.get("variant"))
        units[variant] = _dearer(units[variant], found) if variant in units else found
    standard = units.pop("", None)
    if standard is None:
        raise InvalidRequestError("No rates", errors={"model": "has no standard price in this list"})
    return Rates(model, standard, units, items[0].get("context_window"))


def bound_nano(
    rates: Rates,
    *,
    input_tokens: int,
    max_output_tokens: int,
    n: int = 1,
    cached_input_tokens: int | None = None,
    text_only: bool = False,
    images: int = 0,
    tool_calls: Mapping[str, int] | None = None,
    service_tier: str | None = None,
) -> int:
    """Returns the most that a call can cost in nano-USD, rounded up.

    At the dearest long-context tier that the input can reach; input that may be written into a cache
    (`cached_input_tokens`, None for all of it) at the dearer of the two rates. Raises UnpricedError.
    """
    cached = input_tokens if cached_input_tokens is None else min(cached_input_tokens, input_tokens)
    choices, (up, down) = _choices(rates, service_tier)
    most = 0
    for units in choices:
        if input_tokens and "input_tokens" not in units:
            raise UnpricedError(f"{rates.model} has no price for input_tokens")
        plain, held, output = _ceilings(units, input_tokens, text_only)
        fixed = (input_tokens - cached) * plain + cached * held
        fixed += _fees(rates.model, units, tool_calls or {}, images)
        pico = -(-fixed * up // down) + max_output_tokens * n * -(-output * up // down)
        most = max(most, pico)
    return -(-most // 1000)


def _choices(rates: Rates, tier: str | None) -> tuple[list[Units], tuple[int, int]]:
    own = {name: {**rates.units, **units} for name, units in rates.variants.items()}
    if tier is None or tier in _STANDARD:
        return [rates.units], (1, 1)
    if tier == "auto":
        return [rates.units, *own.values()], (1, 1)
    if tier in _SLOWER:
        return [own.get(tier, rates.units)], (1, 1)
    if tier in own:
        return [rates.units, own[tier]], (1, 1)
    return [rates.units, *own.values()], PRIORITY_FACTOR


def _ceilings(units: Units, input_tokens: int, text_only: bool) -> tuple[int, int, int]:
    starts = {start for pairs in units.values() for start, _ in pairs if start < input_tokens} | {0}
    plain = held = output = 0
    for start in starts:

        def rate(unit: str, otherwise: int, at: int = start) -> int:
            found = [price for begin, price in sorted(units.get(unit, ())) if begin <= at]
            return found[-1] if found else otherwise

        whole = rate("input_tokens", 0)
        read = rate("cache_read_tokens", whole)
        write = rate("cache_write_tokens", whole)
        answer = rate("output_tokens", 0)
        own = max(whole, read)
        said = max(answer, rate("output_reasoning_tokens", answer), rate("output_citation_tokens", answer))
        if not text_only:
            for unit in _HEARD_AND_SEEN:
                more = rate(unit, whole)
                own = max(own, more)
                again = unit.replace("input_", "cache_").replace("_tokens", "_read_tokens")
                if unit != "input_video_tokens":
                    own = max(own, rate(again, max(more, read)))
            said = max(said, *(rate(unit, answer) for unit in _SPOKEN_AND_DRAWN))
        plain = max(plain, own)
        held = max(held, own, write, rate("cache_write_1h_tokens", write))
        output = max(output, said)
    return plain, held, output


def _fees(model: str, units: Units, tools: Mapping[str, int], images: int) -> int:
    pico = units["requests"][0][1] if "requests" in units else 0
    for name, count in tools.items():
        unit = _TOOLS.get(name, "")
        if count and unit not in units:
            raise UnpricedError(f"{model} has no price for {name}")
        if count:
            pico += count * units[unit][0][1]
    if images and "images" in units:
        pico += images * units["images"][0][1]
    elif images and "input_tokens" not in units:
        raise UnpricedError(f"{model} has no price for images")
    return pico


def _pairs(price: Mapping[str, Any]) -> list[tuple[int, int]]:
    if "usd_per_unit" in price:
        return [(0, _pico(price["usd_per_unit"], 1))]
    tiers = [
        (int(tier["above_input_tokens"]), _pico(tier["usd_per_million_tokens"], 10**6))
        for tier in price.get("tiers", ())
    ]
    return [(0, _pico(price["usd_per_million_tokens"], 10**6)), *tiers]


def _pico(usd: str, units: int) -> int:
    # Rounded up: a rate has at most twelve places, so this changes nothing but what is not one.
    return int((Decimal(usd).scaleb(12) / units).to_integral_value(ROUND_CEILING))


def _dearer(one: Units, other: Units) -> Units:
    """Joins two lists unit by unit, each at its dearer price from every start of a tier on."""
    joined: dict[str, list[tuple[int, int]]] = {}
    for unit in {**one, **other}:
        both = [sorted(units[unit]) for units in (one, other) if unit in units]
        starts = sorted({start for pairs in both for start, _ in pairs})
        joined[unit] = [
            (start, max([p for begin, p in pairs if begin <= start][-1] for pairs in both))
            for start in starts
        ]
    return joined
