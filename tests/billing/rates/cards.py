"""Random rate cards and use, for tests that hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from billing.domain.charging import Model, Use, use_of_sums
from billing.domain.rate_card_reading import read_terms
from billing.domain.rate_cards import CardVersion, Terms, Unit

MODELS: tuple[Model, ...] = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-haiku-4-5"),
)
PATTERNS = ("*", "openai", "anthropic"), ("*", "gpt-4o*", "gpt-4o", "claude*")


def decimals(least: int, most: int, places: int) -> st.SearchStrategy[str]:
    whole = st.decimals(least, most, places=places, allow_nan=False, allow_infinity=False)
    return whole.map(lambda value: f"{value.normalize() + 0:f}")


@st.composite
def rates(draw: st.DrawFn, unit: Unit, prices: st.SearchStrategy[str]) -> dict[str, Any]:
    included = draw(st.sampled_from([0, 0, 100, 5_000]))
    starts = draw(st.lists(st.integers(included + 1, 20_000), max_size=3, unique=True).map(sorted))
    return {
        "unit": unit.value,
        "price_usd": draw(prices),
        "per": draw(st.sampled_from([1, 1_000, 1_000_000])),
        "included": included,
        "tiers": [{"above": above, "price_usd": draw(prices)} for above in starts],
    }


@st.composite
def terms(draw: st.DrawFn, *, bent: bool = True) -> Terms:
    """What a card may say; without `bent` neither tiers nor included amounts by units."""
    percents, prices = decimals(-100, 400, 4), decimals(0, 20, 9)
    maybe = st.one_of(st.none(), percents)
    rules: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 3))):
        units = draw(st.lists(st.sampled_from(list(Unit)), max_size=4, unique=True))
        found = [draw(rates(unit, prices)) for unit in units]
        if not bent:
            found = [{**rate, "included": 0, "tiers": []} for rate in found]
        markup = draw(maybe if found else percents)
        provider, model = (draw(st.sampled_from(names)) for names in PATTERNS)
        rules.append({"provider": provider, "model": model, "markup_percent": markup, "rates": found})
    starts = draw(st.lists(st.integers(0, 300), max_size=3, unique=True).map(sorted))
    return read_terms(
        {
            "markup_percent": draw(maybe if rules else percents),
            "rules": rules,
            "included_usd": draw(st.sampled_from(["0", "0", "0.5", "37.123456789"])),
            "tiers": [{"above_usd": str(above), "percent": draw(decimals(0, 200, 4))} for above in starts],
        }
    )


@st.composite
def uses(draw: st.DrawFn) -> dict[Model, Use]:
    """What was used in some time."""
    counts = st.integers(0, 5_000)
    found = {}
    for model in draw(st.lists(st.sampled_from(MODELS), unique=True)):
        reads, writes, heard = draw(counts), draw(counts), draw(counts)
        reasoning, spoken = draw(counts), draw(counts)
        found[model] = use_of_sums(
            cost_nano=draw(st.integers(0, 90 * 10**9)),
            requests=draw(st.integers(0, 50)),
            input_tokens=draw(counts) + reads + writes + heard,
            output_tokens=draw(counts) + reasoning + spoken,
            cache_read_tokens=reads,
            cache_write_tokens=writes,
            cache_write_1h_tokens=draw(st.integers(0, writes)),
            reasoning_tokens=reasoning,
            audio_input_tokens=heard,
            audio_output_tokens=spoken,
            images=draw(st.integers(0, 9)),
            tool_calls=draw(st.integers(0, 9)),
        )
    return found


def version(said: Terms, number: int = 1) -> CardVersion:
    return CardVersion(
        card_id=UUID(int=1), number=number, effective_from=datetime(2026, 1, 1, tzinfo=UTC), terms=said
    )
