"""What one call costs, and the most that it can cost: integer arithmetic on compiled rates.

A rate is pico-USD per unit; a cost in pico-USD is exact and is rounded once, in `noburn.kit.money`: actual
costs half to even, bounds up. Models and dates are the price book's matter (`pricing_book`).

The convention for usage (normalising each provider's shape is the SDK's work):
- `input_tokens` is the TOTAL input. Cache reads, cache writes and audio input are parts of it.
- `cache_write_tokens` is all cache writes; `cache_write_1h_tokens` is the part of them that lives an hour.
- `output_tokens` is the TOTAL output. Reasoning and audio output are parts of it.
- A part without a rate is charged at the rate of the whole. A whole without a rate is an error.
- A long-context tier applies to every token of a call whose total input exceeds the tier's start.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from budgets.domain.pricing_rates import (
    COUNT_MESSAGE,
    COUNTED_UNITS,
    MAX_COUNT,
    PRIORITY_FACTOR,
    SLOWER_TIERS,
    STANDARD_TIERS,
    TOOL_UNITS,
    USAGE_UNITS,
    BadUsage,
    CostTooLarge,
    PricingError,
    Rates,
    Tier,
    UnpricedUnit,
    Usage,
    compile_rates,
)
from noburn.kit.money import LIMIT_NANO_MAX, divide_even, divide_up, pico_to_nano_even, pico_to_nano_up

__all__ = [
    "MAX_COUNT",
    "BadUsage",
    "CostTooLarge",
    "PricingError",
    "Rates",
    "UnpricedUnit",
    "Usage",
    "bound_nano",
    "compile_rates",
    "cost_nano",
    "cost_pico",
    "fits_output_tokens",
]


def cost_pico(rates: Rates, usage: Usage) -> int:
    """Returns the exact cost of a call in pico-USD (seconds of audio are rounded to the pico, half to even).

    The usage's service tier picks the variant; a tier without a price of its own is charged as standard.
    Raises BadUsage, UnpricedUnit.
    """
    tier_name = usage.service_tier
    if tier_name and rates.variants:
        rates = rates.variants.get(tier_name, rates)
    total, reads, writes = usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens
    hour_writes, audio = usage.cache_write_1h_tokens, usage.audio_input_tokens
    output, reasoning, speech = usage.output_tokens, usage.reasoning_tokens, usage.audio_output_tokens
    plain_output = output - reasoning - speech
    if (
        min(total, reads, writes, hour_writes, audio, output, reasoning, speech, plain_output, usage.images)
        < 0
        or max(total, output, usage.images) > MAX_COUNT
        or hour_writes > writes
        or reads + writes > total
        or audio > total
    ):
        raise BadUsage(_usage_errors(usage))
    tier = rates.tiers[bisect_left(rates.starts, total)] if rates.starts else rates.tiers[0]
    if (total and not rates.prices_input) or (output and not rates.prices_output):
        raise UnpricedUnit(rates, _unpriced_tokens(rates, usage))
    pico = rates.per_request + (
        writes * tier.cache_write
        + hour_writes * (tier.cache_write_1h - tier.cache_write)
        + plain_output * tier.output
        + reasoning * tier.reasoning
        + speech * tier.audio_output
    )
    cached_audio = 0
    if audio:
        # How much of the audio was cached is seldom told: then as little as the counts allow.
        told = usage.units.get("cache_audio_read_tokens")
        cached_audio = max(0, reads + writes + audio - total) if told is None else told
        if not 0 <= cached_audio <= min(reads, audio):
            raise BadUsage({"audio_input_tokens": "overlaps the cached tokens by more than there are"})
        pico += (audio - cached_audio) * tier.audio_input + cached_audio * tier.audio_cache_read
    text = total - reads - writes - audio + cached_audio
    reads -= cached_audio
    if usage.units:
        extra, text, reads = _units_pico(rates, tier, usage, text, reads, plain_output)
        pico += extra
    if text < 0 or reads < 0:
        raise BadUsage({"input_tokens": "must be at least the sum of its parts"})
    pico += text * tier.input + reads * tier.cache_read
    if usage.tool_calls or usage.images:
        pico += _fees_pico(rates, usage.tool_calls, usage.images)
    return pico


def cost_nano(rates: Rates, usage: Usage) -> int:
    """Returns the cost of a call in nano-USD, half to even. Raises BadUsage, UnpricedUnit, CostTooLarge."""
    return _checked(pico_to_nano_even(cost_pico(rates, usage)))


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
    """Returns the most that a call can cost, in nano-USD rounded up: what a hold reserves.

    Holds for every usage with at most `input_tokens` in, `n * max_output_tokens` out, these images and tool
    calls, at the dearest long-context tier that the input can reach. `cached_input_tokens` is how many input
    tokens the caller lets the provider write into a cache (None: unknown, so all of them); reads need no say.
    `text_only` says that neither audio nor pictures go in or out, which many models charge more for.
    `service_tier` is the tier asked for: batch and flex hold at their own price, a faster one at the dearer
    of it and standard, "auto" at the dearest; one without a price at 2.5 times standard (PRIORITY_FACTOR).
    A model without a price for output produces none that is charged, so its cap is left out.
    Raises BadUsage, UnpricedUnit, CostTooLarge.
    """
    tools = tool_calls or {}
    fixed, per_output = _bound_parts(
        rates, input_tokens, n, cached_input_tokens, text_only, images, tools, service_tier, max_output_tokens
    )
    return _checked(
        pico_to_nano_up(max(f + max_output_tokens * n * o for f, o in zip(fixed, per_output, strict=True)))
    )


def fits_output_tokens(
    rates: Rates,
    *,
    input_tokens: int,
    available_nano: int,
    n: int = 1,
    cached_input_tokens: int | None = None,
    text_only: bool = False,
    images: int = 0,
    tool_calls: Mapping[str, int] | None = None,
    service_tier: str | None = None,
) -> int:
    """Returns the largest `max_output_tokens` whose bound is at most `available_nano`; 0 when none is.

    At most MAX_COUNT, which is also the answer when output costs nothing. Takes what `bound_nano` takes.
    """
    tools = tool_calls or {}
    fixed, per_output = _bound_parts(
        rates, input_tokens, n, cached_input_tokens, text_only, images, tools, service_tier, 0
    )
    room = min(available_nano, LIMIT_NANO_MAX - 1) * 1000
    fits = MAX_COUNT
    for start, output in zip(fixed, per_output, strict=True):
        if start > room:
            return 0
        if output:
            fits = min(fits, (room - start) // (output * n))
    return fits


def _bound_parts(
    rates: Rates,
    input_tokens: int,
    n: int,
    cached: int | None,
    text_only: bool,
    images: int,
    tools: Mapping[str, int],
    service_tier: str | None,
    max_output_tokens: int,
) -> tuple[list[int], list[int]]:
    errors = {
        field: COUNT_MESSAGE
        for field, count in (
            ("input_tokens", input_tokens),
            ("max_output_tokens", max_output_tokens),
            ("images", images),
            ("cached_input_tokens", cached or 0),
        )
        if not 0 <= count <= MAX_COUNT
    }
    if not 1 <= n <= 1000:
        errors["n"] = "must be a whole number from 1 to 1000"
    if errors:
        raise BadUsage(errors)
    if input_tokens and not rates.prices_input:
        raise UnpricedUnit(rates, ["input_tokens"])
    fees = rates.per_request + (_fees_pico(rates, tools, images) if tools or images else 0)
    cached = input_tokens if cached is None else min(cached, input_tokens)
    fixed: list[int] = []
    per_output: list[int] = []
    choices, (up, down) = _tiers_asked(rates, service_tier)
    for choice in choices:
        ceiling = choice.ceilings[bisect_left(choice.starts, input_tokens)]
        if text_only:
            plain, held, output = ceiling.input_text, ceiling.cached_text, ceiling.output_text
        else:
            plain, held, output = ceiling.input, ceiling.cached, ceiling.output
        tokens = (input_tokens - cached) * plain + cached * held
        if choice is not rates:
            fees = choice.per_request + (_fees_pico(choice, tools, images) if tools or images else 0)
        fixed.append(divide_up((tokens + fees) * up, down))
        per_output.append(divide_up(output * up, down))
    return fixed, per_output


def _tiers_asked(rates: Rates, service_tier: str | None) -> tuple[list[Rates], tuple[int, int]]:
    if service_tier is None or service_tier in STANDARD_TIERS:
        return [rates], (1, 1)
    if service_tier == "auto":
        return [rates, *rates.variants.values()], (1, 1)
    priced = rates.variants.get(service_tier)
    if service_tier in SLOWER_TIERS:
        return [priced or rates], (1, 1)
    if priced is not None:
        return [rates, priced], (1, 1)
    return [rates, *rates.variants.values()], PRIORITY_FACTOR


def _fees_pico(rates: Rates, tools: Mapping[str, int], images: int) -> int:
    pico = 0
    missing = []
    for name, count in tools.items():
        if not 0 <= count <= MAX_COUNT:
            raise BadUsage({f"tool_calls.{name}": COUNT_MESSAGE})
        if not count:
            continue
        fee = rates.fees.get(TOOL_UNITS.get(name, ""))
        if fee is None:
            missing.append(f"tool_calls.{name}")
        else:
            pico += count * fee
    if images:
        if (fee := rates.fees.get("images")) is not None:
            pico += images * fee
        elif not rates.prices_input:
            missing.append("images")
    if missing:
        raise UnpricedUnit(rates, missing)
    return pico


def _units_pico(
    rates: Rates, tier: Tier, usage: Usage, text: int, reads: int, output: int
) -> tuple[int, int, int]:
    """Prices `usage.units`; returns (pico, plain input left, cache reads left)."""
    units = usage.units
    errors = {
        f"units.{name}": COUNT_MESSAGE if name in USAGE_UNITS else "is not a unit"
        for name, count in units.items()
        if name not in USAGE_UNITS or not 0 <= count <= MAX_COUNT
    }
    image, image_reads = units.get("input_image_tokens", 0), units.get("cache_image_read_tokens", 0)
    if image_reads > image:
        errors["units.cache_image_read_tokens"] = "must be at most input_image_tokens"
    if not usage.audio_input_tokens and units.get("cache_audio_read_tokens"):
        errors["units.cache_audio_read_tokens"] = "must be at most audio_input_tokens"
    made = {
        "image": units.get("output_image_tokens", 0),
        "video": units.get("output_video_tokens", 0),
        "citation": units.get("output_citation_tokens", 0),
    }
    if sum(made.values()) > output:
        errors["output_tokens"] = "must be at least the sum of its parts"
    pages, annotated = units.get("input_document_pages", 0), units.get("input_annotated_document_pages", 0)
    pages = max(pages, annotated)
    if errors:
        raise BadUsage(errors)
    video = units.get("input_video_tokens", 0)
    pico = (
        (image - image_reads) * tier.image_input
        + image_reads * tier.image_cache_read
        + video * tier.video_input
        + made["image"] * (tier.image_output - tier.output)
        + made["video"] * (tier.video_output - tier.output)
        + made["citation"] * (tier.citation - tier.output)
    )
    fees, missing = rates.fees, []
    if "input_annotated_document_pages" in fees:
        pico += annotated * fees["input_annotated_document_pages"]
        pages -= annotated
    plain = {"input_document_pages": pages}
    for name in COUNTED_UNITS - {"images", "input_document_pages", "input_annotated_document_pages"}:
        plain[name] = units.get(name, 0)
    for name, count in plain.items():
        if count and name not in fees:
            missing.append(name)
        elif count:
            pico += count * fees[name]
    heard = units.get("input_audio_seconds", 0)
    seconds = max(units.get("audio_seconds", 0), heard)
    hours = 0
    if "input_audio_hours" in fees:
        hours += heard * fees["input_audio_hours"]
        seconds -= heard
    if seconds and "audio_hours" not in fees:
        missing.append("audio_seconds")
    elif seconds:
        hours += seconds * fees["audio_hours"]
    if missing:
        raise UnpricedUnit(rates, missing)
    return pico + divide_even(hours, 3600), text - image + image_reads - video, reads - image_reads


def _unpriced_tokens(rates: Rates, usage: Usage) -> list[str]:
    pairs = (
        ("input_tokens", usage.input_tokens, rates.prices_input),
        ("output_tokens", usage.output_tokens, rates.prices_output),
    )
    return [name for name, count, priced in pairs if count and not priced]


def check_usage(usage: Usage) -> None:
    """Raises BadUsage, naming every count that is negative, absurd or smaller than its parts; whatever the price."""
    errors = _usage_errors(usage)
    for field in ("tool_calls", "units"):
        counts: dict[str, int] = getattr(usage, field)
        errors |= {
            f"{field}.{name}": COUNT_MESSAGE for name, count in counts.items() if not 0 <= count <= MAX_COUNT
        }
    if errors:
        raise BadUsage(errors)


def _usage_errors(usage: Usage) -> dict[str, str]:
    counts = {
        name: getattr(usage, name)
        for name in usage.__struct_fields__
        if name not in ("tool_calls", "service_tier", "units")
    }
    errors = {name: COUNT_MESSAGE for name, count in counts.items() if not 0 <= count <= MAX_COUNT}
    for whole, parts in (
        ("cache_write_tokens", ("cache_write_1h_tokens",)),
        ("input_tokens", ("cache_read_tokens", "cache_write_tokens")),
        ("input_tokens", ("audio_input_tokens",)),
        ("output_tokens", ("reasoning_tokens", "audio_output_tokens")),
    ):
        if whole not in errors and sum(counts[part] for part in parts) > counts[whole]:
            errors[whole] = f"must be at least {' + '.join(parts)}: it is the total that contains them"
    return errors


def _checked(nano: int) -> int:
    if nano >= LIMIT_NANO_MAX:
        raise CostTooLarge(nano)
    return nano
