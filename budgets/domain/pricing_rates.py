"""The units that providers charge for, and the compiled rates of one model.

Rates are pico-USD per unit and come from the price book; `pricing` multiplies them with usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from noburn.kit.money import LIMIT_NANO_MAX

MAX_COUNT: Final = 10**9
"""The largest count of anything in one call. More is a mistake in the caller, not a call."""

COUNT_MESSAGE: Final = f"must be a whole number from 0 to {MAX_COUNT}"

MAX_TIERS: Final = 16

PRIORITY_FACTOR: Final = 5, 2
"""What a bound multiplies the standard rates by for a faster tier without a price of its own.

Two and a half is the dearest ratio of a priority tier to its standard price among all models of genai-prices
0.2.3, checked 2026-11-22.
"""

INPUT_UNITS: Final = frozenset(
    {
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "input_audio_tokens",
        "cache_audio_read_tokens",
        "input_image_tokens",
        "cache_image_read_tokens",
        "input_video_tokens",
    }
)
OUTPUT_UNITS: Final = frozenset(
    {
        "output_tokens",
        "output_reasoning_tokens",
        "output_audio_tokens",
        "output_image_tokens",
        "output_video_tokens",
        "output_citation_tokens",
    }
)
TOKEN_UNITS: Final = INPUT_UNITS | OUTPUT_UNITS
TOOL_UNITS: Final = {
    "web_search": "web_searches",
    "social_search": "social_searches",
    "storage_search": "storage_searches",
    "file_search": "storage_searches",
    "code_execution": "code_executions",
}
"""A provider's own tools by the name that usage reports, and the unit that their price is kept under."""

COUNTED_UNITS: Final = frozenset(
    {
        "images",
        "input_characters",
        "input_text_messages",
        "input_document_pages",
        "input_annotated_document_pages",
        "rerank_searches",
    }
)
AUDIO_HOUR_UNITS: Final = {"audio_seconds": "audio_hours", "input_audio_seconds": "input_audio_hours"}
"""Audio is used by the second and priced by the hour."""

FEE_UNITS: Final = (
    COUNTED_UNITS | frozenset(TOOL_UNITS.values()) | frozenset(AUDIO_HOUR_UNITS.values()) | {"requests"}
)
UNITS: Final = TOKEN_UNITS | FEE_UNITS
"""Every unit that a price row may carry."""

USAGE_UNITS: Final = (
    (COUNTED_UNITS - {"images"})
    | frozenset(AUDIO_HOUR_UNITS)
    | {
        "cache_audio_read_tokens",
        "input_image_tokens",
        "cache_image_read_tokens",
        "input_video_tokens",
        "output_image_tokens",
        "output_video_tokens",
        "output_citation_tokens",
    }
)
"""What `Usage.units` may count beside the named fields."""

STANDARD_TIERS: Final = frozenset({"", "default", "standard", "on_demand"})
SLOWER_TIERS: Final = frozenset({"batch", "flex"})


class PricingError(ValueError):
    """Something about a usage that has no price."""


class BadUsage(PricingError):
    """A usage that contradicts itself or holds absurd counts. `errors` maps each field to what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in sorted(errors.items())))
        self.errors = dict(errors)


class UnpricedUnit(PricingError):
    """Units were used that the model has no price for; they are never charged as zero."""

    def __init__(self, rates: Rates, units: Sequence[str]) -> None:
        super().__init__(f"{rates.provider}/{rates.model} has no price for {', '.join(sorted(units))}")
        self.units = tuple(sorted(units))


class CostTooLarge(PricingError):
    """A cost beyond LIMIT_NANO_MAX, which no budget could hold."""

    def __init__(self, nano: int) -> None:
        super().__init__(f"the cost would be {nano} nano-USD, more than {LIMIT_NANO_MAX}")
        self.nano = nano


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one call used, as the module's convention has it. Counts are whole numbers from 0 to MAX_COUNT.

    `images` counts images priced by the piece; for a model that charges them as tokens they are part of
    `input_tokens` and cost nothing more. `tool_calls` counts uses of the provider's own tools, by name.
    `units` counts what few models charge for, by the names in USAGE_UNITS.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    images: int = 0
    tool_calls: dict[str, int] = {}
    service_tier: str | None = None
    units: dict[str, int] = {}


class Tier(msgspec.Struct, frozen=True, gc=False):
    """Rates in pico-USD for one token when the total input exceeds `start`; no part is left out."""

    start: int
    input: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    audio_input: int
    audio_cache_read: int
    image_input: int
    image_cache_read: int
    video_input: int
    output: int
    reasoning: int
    audio_output: int
    image_output: int
    video_output: int
    citation: int


class Ceiling(msgspec.Struct, frozen=True, gc=False):
    """The dearest rates among the tiers an input can reach. The text ones leave out audio and pictures."""

    input: int
    input_text: int
    cached: int
    cached_text: int
    output: int
    output_text: int


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The compiled prices of one model and variant ("" is the standard one) at one time.

    `price_id` is the newest price row that went into them: with provider, model, variant and time it names
    the rates for good, since rows never change. `starts`, `tiers` and `ceilings` run in parallel. `fees` are
    pico-USD for one unit, or one hour. `units` is what was given, for printing. `variants` holds the others
    (batch, flex, priority, …) and is empty inside a variant. `override` is the id of the negotiated price that was
    laid over them, empty for the book's own.
    """

    provider: str
    model: str
    variant: str
    price_id: int
    starts: tuple[int, ...]
    tiers: tuple[Tier, ...]
    ceilings: tuple[Ceiling, ...]
    fees: dict[str, int]
    per_request: int
    prices_input: bool
    prices_output: bool
    units: dict[str, tuple[tuple[int, int], ...]]
    variants: dict[str, Rates]
    override: str = ""

    @property
    def name(self) -> str:
        """What an authorization and the ledger call these rates: the price row, and the negotiated price over it."""
        return f"{self.price_id}+{self.override}" if self.override else str(self.price_id)


def compile_rates(
    *,
    provider: str,
    model: str,
    units: Mapping[str, Sequence[tuple[int, int]]],
    variants: Mapping[str, Mapping[str, Sequence[tuple[int, int]]]] | None = None,
    price_id: int = 0,
    variant: str = "",
    override: str = "",
) -> Rates:
    """Compiles prices into Rates.

    `units` maps a unit of UNITS to its `(tier_start, pico_usd)` pairs, one of them with start 0. A variant
    names only the units in which it differs. Raises ValueError for an unknown unit or a missing base price.
    """
    prices = {unit: tuple(sorted(pairs)) for unit, pairs in units.items()}
    for unit, pairs in prices.items():
        if unit not in UNITS:
            raise ValueError(f"{provider}/{model}: unknown unit {unit!r}")
        if not pairs or pairs[0][0] != 0 or len({start for start, _ in pairs}) != len(pairs):
            raise ValueError(
                f"{provider}/{model}: {unit} needs one price at tier 0 and one for each further tier"
            )
        if unit in FEE_UNITS and len(pairs) > 1:
            raise ValueError(f"{provider}/{model}: {unit} cannot have tiers")
    starts = tuple(sorted({start for pairs in prices.values() for start, _ in pairs if start}))
    if len(starts) >= MAX_TIERS:
        raise ValueError(f"{provider}/{model}: more than {MAX_TIERS} tiers")
    tiers = tuple(_tier(prices, start) for start in (0, *starts))
    return Rates(
        provider=provider,
        model=model,
        variant=variant,
        price_id=price_id,
        starts=starts,
        tiers=tiers,
        ceilings=tuple(_ceiling(tiers[: reach + 1]) for reach in range(len(tiers))),
        fees={
            unit: pairs[0][1] for unit, pairs in prices.items() if unit in FEE_UNITS and unit != "requests"
        },
        per_request=prices["requests"][0][1] if "requests" in prices else 0,
        prices_input="input_tokens" in prices,
        prices_output="output_tokens" in prices,
        units=prices,
        variants={
            name: compile_rates(
                provider=provider,
                model=model,
                units={**prices, **own},
                price_id=price_id,
                variant=name,
                override=override,
            )
            for name, own in (variants or {}).items()
        },
        override=override,
    )


def _tier(prices: Mapping[str, tuple[tuple[int, int], ...]], start: int) -> Tier:
    def rate(unit: str, otherwise: int) -> int:
        pairs = prices.get(unit)
        return otherwise if pairs is None else [pico for at, pico in pairs if at <= start][-1]

    whole = rate("input_tokens", 0)
    read = rate("cache_read_tokens", whole)
    write = rate("cache_write_tokens", whole)
    audio = rate("input_audio_tokens", whole)
    image = rate("input_image_tokens", whole)
    output = rate("output_tokens", 0)
    return Tier(
        start=start,
        input=whole,
        cache_read=read,
        cache_write=write,
        cache_write_1h=rate("cache_write_1h_tokens", write),
        audio_input=audio,
        # Cached audio without a price of its own belongs to two parts at once: the dearer one is charged.
        audio_cache_read=rate("cache_audio_read_tokens", max(audio, read)),
        image_input=image,
        image_cache_read=rate("cache_image_read_tokens", max(image, read)),
        video_input=rate("input_video_tokens", whole),
        output=output,
        reasoning=rate("output_reasoning_tokens", output),
        audio_output=rate("output_audio_tokens", output),
        image_output=rate("output_image_tokens", output),
        video_output=rate("output_video_tokens", output),
        citation=rate("output_citation_tokens", output),
    )


def _ceiling(tiers: Sequence[Tier]) -> Ceiling:
    # Cache reads stand in every ceiling: many providers cache by themselves, whatever the caller says.
    input_text = max(max(t.input, t.cache_read) for t in tiers)
    others = (
        max(t.audio_input, t.audio_cache_read, t.image_input, t.image_cache_read, t.video_input)
        for t in tiers
    )
    input_any = max(input_text, *others)
    writes = max(max(t.cache_write, t.cache_write_1h) for t in tiers)
    output_text = max(max(t.output, t.reasoning, t.citation) for t in tiers)
    return Ceiling(
        input=input_any,
        input_text=input_text,
        cached=max(input_any, writes),
        cached_text=max(input_text, writes),
        output=max(output_text, *(max(t.audio_output, t.image_output, t.video_output) for t in tiers)),
        output_text=output_text,
    )
