"""The cost and the bound of a call: shared vectors, properties, and equality with the packaged calculator."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import data
from genai_prices import types as genai
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from budgets.domain.pricing import (
    MAX_COUNT,
    BadUsage,
    CostTooLarge,
    Rates,
    UnpricedUnit,
    Usage,
    bound_nano,
    compile_rates,
    cost_nano,
    cost_pico,
    fits_output_tokens,
)
from budgets.domain.pricing_book import Model, ModelEntry, PriceEntry
from budgets.services.price_seed import dated_prices
from noburn.kit.money import pico_to_usd, rate_to_pico, round_rate

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "pricing.json").read_text(encoding="utf-8"))[
    "cases"
]
BOUND_CASES = [case for case in CASES if "bound" in case]
ERRORS = {"bad_usage": BadUsage, "unpriced": UnpricedUnit}


def rates_of(case: dict[str, Any]) -> Rates:
    return compile_rates(provider="p", model="m", units=case["units"], variants=case.get("variants"))


def per_million(**prices: int) -> Rates:
    """Rates from micro-USD for a million tokens, which are pico-USD for one."""
    return compile_rates(
        provider="p", model="m", units={unit: [(0, price)] for unit, price in prices.items()}
    )


MINI = per_million(input_tokens=150_000, output_tokens=600_000, cache_read_tokens=75_000)


class TestCost:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_agrees_with_the_shared_vectors(self, case: dict[str, Any]) -> None:
        usage = msgspec.convert(case["usage"], Usage)
        if "error" in case:
            with pytest.raises(ERRORS[case["error"]]):
                cost_nano(rates_of(case), usage)
        else:
            assert cost_nano(rates_of(case), usage) == case["cost_nano"]

    def test_names_every_wrong_field_at_once(self) -> None:
        usage = Usage(input_tokens=-1, output_tokens=5, reasoning_tokens=6, images=MAX_COUNT + 1)
        with pytest.raises(BadUsage) as refused:
            cost_nano(MINI, usage)
        assert set(refused.value.errors) == {"input_tokens", "output_tokens", "images"}

    def test_names_the_tools_without_a_price(self) -> None:
        with pytest.raises(
            UnpricedUnit, match=r"p/m has no price for tool_calls\.surgery, tool_calls\.web_search"
        ):
            cost_nano(MINI, Usage(tool_calls={"web_search": 1, "surgery": 2}))

    def test_refuses_a_negative_count_of_tools(self) -> None:
        with pytest.raises(BadUsage, match=r"tool_calls\.web_search"):
            cost_nano(MINI, Usage(tool_calls={"web_search": -1}))

    def test_refuses_a_cost_that_no_budget_could_hold(self) -> None:
        dear = per_million(input_tokens=10**12, output_tokens=0)
        with pytest.raises(CostTooLarge):
            cost_nano(dear, Usage(input_tokens=MAX_COUNT))

    def test_reads_usage_from_the_wire_and_ignores_what_it_does_not_know(self) -> None:
        body = b'{"input_tokens": 980, "output_tokens": 290, "service_tier": null, "from_the_future": 1}'
        assert cost_nano(MINI, msgspec.json.decode(body, type=Usage)) == 321_000


class TestCompileRates:
    @pytest.mark.parametrize(
        ("units", "message"),
        [
            ({"parsecs": [(0, 1)]}, "unknown unit"),
            ({"input_tokens": [(5, 1)]}, "one price at tier 0"),
            ({"input_tokens": []}, "one price at tier 0"),
            ({"input_tokens": [(0, 1), (0, 2)]}, "one price at tier 0"),
            ({"web_searches": [(0, 1), (5, 2)]}, "cannot have tiers"),
            ({"input_tokens": [(start, 1) for start in range(17)]}, "more than 16 tiers"),
        ],
    )
    def test_refuses_prices_that_it_could_not_apply(self, units: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            compile_rates(provider="p", model="m", units=units)


class TestBound:
    @pytest.mark.parametrize("case", BOUND_CASES, ids=lambda case: case["name"])
    def test_agrees_with_the_shared_vectors(self, case: dict[str, Any]) -> None:
        if "bound_error" in case:
            with pytest.raises(ERRORS[case["bound_error"]]):
                bound_nano(rates_of(case), **case["bound"])
        else:
            assert bound_nano(rates_of(case), **case["bound"]) == case["bound_nano"]

    def test_names_every_absurd_count_at_once(self) -> None:
        with pytest.raises(BadUsage) as refused:
            bound_nano(
                MINI, input_tokens=-1, max_output_tokens=10**10, n=0, images=-2, cached_input_tokens=-3
            )
        fields = {"input_tokens", "max_output_tokens", "n", "images", "cached_input_tokens"}
        assert set(refused.value.errors) == fields

    def test_refuses_a_bound_that_no_budget_could_hold(self) -> None:
        with pytest.raises(CostTooLarge):
            bound_nano(per_million(output_tokens=10**8), input_tokens=0, max_output_tokens=MAX_COUNT, n=1000)

    def test_refuses_a_tool_without_a_price(self) -> None:
        with pytest.raises(UnpricedUnit):
            bound_nano(MINI, input_tokens=1, max_output_tokens=1, tool_calls={"web_search": 1})


rates_of_anything = st.builds(
    lambda units, tier, batch, priority: compile_rates(
        provider="p",
        model="m",
        units={
            unit: [(0, pico), *(((tier, pico * 2 // 3 if odd else pico * 2),) if tiered else ())]
            for unit, (pico, tiered, odd) in units.items()
        }
        | {"web_searches": [(0, 10**10)], "requests": [(0, 10**8)]},
        variants={"batch": {"input_tokens": [(0, batch)]}, "priority": {"output_tokens": [(0, priority)]}},
    ),
    units=st.fixed_dictionaries(
        {
            unit: st.tuples(st.integers(0, 10**8), st.booleans(), st.booleans())
            for unit in ("input_tokens", "output_tokens")
        },
        optional={
            unit: st.tuples(st.integers(0, 10**8), st.booleans(), st.booleans())
            for unit in (
                "cache_read_tokens",
                "cache_write_tokens",
                "cache_write_1h_tokens",
                "input_audio_tokens",
                "cache_audio_read_tokens",
                "output_reasoning_tokens",
                "output_audio_tokens",
                "input_image_tokens",
                "output_image_tokens",
            )
        },
    ),
    tier=st.integers(1, 3000),
    batch=st.integers(0, 10**8),
    priority=st.integers(0, 10**8),
)


@st.composite
def calls(draw: st.DrawFn) -> tuple[dict[str, Any], Usage]:
    """A bound's arguments and a usage within them."""
    limits = {"input_tokens": draw(st.integers(0, 5000)), "max_output_tokens": draw(st.integers(0, 2000))}
    n = draw(st.integers(1, 4))
    text_only = draw(st.booleans())
    cached = draw(st.none() | st.integers(0, 6000))
    searches = draw(st.integers(0, 3))
    tier = draw(st.sampled_from([None, "default", "batch", "flex", "priority", "fast", "auto"]))
    total = draw(st.integers(0, limits["input_tokens"]))
    writes = draw(st.integers(0, total if cached is None else min(cached, total)))
    reads = draw(st.integers(0, total - writes))
    audio = 0 if text_only else draw(st.integers(0, total - writes))
    output = draw(st.integers(0, n * limits["max_output_tokens"]))
    reasoning = draw(st.integers(0, output))
    speech = 0 if text_only else draw(st.integers(0, output - reasoning))
    units = {}
    if not text_only:
        units = {"output_image_tokens": draw(st.integers(0, output - reasoning - speech))}
        if not audio:
            units["input_image_tokens"] = draw(st.integers(0, total - reads - writes))
    usage = Usage(
        input_tokens=total,
        output_tokens=output,
        cache_read_tokens=reads,
        cache_write_tokens=writes,
        cache_write_1h_tokens=draw(st.integers(0, writes)),
        reasoning_tokens=reasoning,
        audio_input_tokens=audio,
        audio_output_tokens=speech,
        tool_calls={"web_search": draw(st.integers(0, searches))},
        service_tier=draw(st.sampled_from(["default", "priority", "batch"])) if tier == "auto" else tier,
        units=units,
    )
    bound = limits | {"n": n, "text_only": text_only, "cached_input_tokens": cached, "service_tier": tier}
    return bound | {"tool_calls": {"web_search": searches}}, usage


class TestBoundAndCost:
    @settings(max_examples=600, deadline=None)
    @given(rates_of_anything, calls())
    def test_a_usage_within_the_bound_never_costs_more(
        self, rates: Rates, call: tuple[dict[str, Any], Usage]
    ) -> None:
        bound, usage = call
        assert cost_pico(rates, usage) <= bound_nano(rates, **bound) * 1000
        assert cost_nano(rates, usage) <= bound_nano(rates, **bound)

    @settings(max_examples=400, deadline=None)
    @given(rates_of_anything, calls(), st.integers(0, 10**12))
    def test_what_fits_is_the_most_that_fits(
        self, rates: Rates, call: tuple[dict[str, Any], Usage], room: int
    ) -> None:
        bound, _ = call
        del bound["max_output_tokens"]
        fits = fits_output_tokens(rates, available_nano=room, **bound)
        if fits:
            assert bound_nano(rates, max_output_tokens=fits, **bound) <= room
        if fits < MAX_COUNT:
            assume(bound_nano(rates, max_output_tokens=0, **bound) <= room or fits == 0)
            assert bound_nano(rates, max_output_tokens=fits + 1, **bound) > room


class TestFits:
    def test_answers_the_contract_s_example(self) -> None:
        assert fits_output_tokens(MINI, input_tokens=1200, available_nano=480_000) == 500
        assert fits_output_tokens(MINI, input_tokens=1200, available_nano=479_999) == 499

    def test_is_nothing_when_not_even_the_input_fits(self) -> None:
        assert fits_output_tokens(MINI, input_tokens=1200, available_nano=100_000) == 0
        assert fits_output_tokens(MINI, input_tokens=1200, available_nano=-5) == 0

    def test_is_the_largest_count_when_output_costs_nothing(self) -> None:
        embedding = per_million(input_tokens=20_000)
        assert fits_output_tokens(embedding, input_tokens=1200, available_nano=480_000) == MAX_COUNT


AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
USAGES: list[dict[str, Any]] = [
    {"input_tokens": 1234, "output_tokens": 567},
    {"input_tokens": 1, "output_tokens": 1},
    {"input_tokens": 150_000, "output_tokens": 9_999, "cache_read_tokens": 149_000},
    {"input_tokens": 250_001, "output_tokens": 8_191},
    {"input_tokens": 700_000, "output_tokens": 8_191, "cache_read_tokens": 600_001},
    {"input_tokens": 9_999, "output_tokens": 777, "cache_read_tokens": 3_333, "cache_write_tokens": 4_444},
    {"input_tokens": 9_999, "output_tokens": 5, "cache_write_tokens": 4_444, "cache_write_1h_tokens": 1_111},
    {"input_tokens": 4_000, "output_tokens": 3_000, "reasoning_tokens": 2_345},
    {"input_tokens": 4_000, "output_tokens": 3_000, "audio_input_tokens": 1_500, "cache_read_tokens": 2_000},
    {"input_tokens": 4_000, "output_tokens": 3_000, "audio_output_tokens": 1_500},
]
THEIR_NAMES = {
    "reasoning_tokens": "output_reasoning_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "audio_output_tokens": "output_audio_tokens",
}
CONTEXTS: list[tuple[str | None, dict[str, str] | None]] = [
    (None, None),
    ("batch", {"processing": "batch"}),
    ("priority", {"service_tier": "priority"}),
    ("flex", {"service_tier": "flex"}),
]


def packaged() -> list[tuple[Any, Any, Model]]:
    """Every model of the package, and the same as rows of the price book."""
    found = []
    for provider in data.providers:
        for model in provider.models:
            entries = tuple(
                PriceEntry(
                    number,
                    price.variant,
                    price.unit,
                    price.tier_start,
                    rate_to_pico(price.price, field="price"),
                    price.effective_from,
                    price.effective_to,
                    price.daily_from,
                    price.daily_to,
                )
                for number, price in enumerate(dated_prices(model), 1)
            )
            found.append(
                (provider, model, Model(provider.id, ModelEntry(model.id, None, False, None, entries)))
            )
    return found


def is_whole_pico(prices: Any) -> bool:
    """Whether a row can hold the prices exactly: a few were divided as floats at their source."""
    tiered = [v for v in vars(prices).values() if v is not None]
    rates = [
        r for v in tiered for r in ([v.base, *(t.price for t in v.tiers)] if hasattr(v, "base") else [v])
    ]
    return all(round_rate(rate / 10**6) == rate / 10**6 for rate in rates)


class TestCostAgainstThePackage:
    """The packaged calculator is an independent implementation: both must agree to the nano."""

    # At the second time, those that cost something else then.
    @pytest.mark.parametrize(
        ("at", "models", "least"), [(AT, 2_000, 60_000), (AT.replace(month=9, day=30, hour=2), 1, 20)]
    )
    def test_agrees_to_the_nano_for_every_model_tier_and_variant(
        self, at: datetime, models: int, least: int
    ) -> None:
        compared: set[tuple[str, str]] = set()
        results = 0
        for provider, theirs, ours in packaged():
            rates = ours.rates(at)
            if rates is None or not (rates.prices_input and rates.prices_output):
                continue
            if at != AT and rates == ours.rates(AT):
                continue
            for name, context in CONTEXTS:
                if not is_whole_pico(theirs.get_prices(at, context)):
                    continue
                for counts in USAGES:
                    usage = Usage(service_tier=name, **counts)
                    values = {THEIR_NAMES.get(field, field): count for field, count in counts.items()}
                    # Theirs wants the overlap of cached and heard tokens told where a model prices it.
                    values["cache_audio_read_tokens"] = 0
                    expected = theirs.calc_price(
                        genai.Usage(**values), provider, genai_request_timestamp=at, price_context=context
                    )
                    nano = int((expected.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))
                    assert cost_nano(rates, usage) == nano, (provider.id, theirs.id, name, counts)
                    results += 1
            compared.add((provider.id, theirs.id))
        assert len(compared) > models
        assert results > least

    def test_differs_by_the_rounding_of_a_row_where_the_package_holds_more_places(self) -> None:
        finer = [
            (provider, theirs, ours.rates(AT))
            for provider, theirs, ours in packaged()
            if not is_whole_pico(theirs.get_prices(AT))
        ]
        assert 10 < len(finer) < 60
        for provider, theirs, rates in finer:
            assert rates is not None
            counts: dict[str, Any] = {
                "input_tokens": 10**6,
                "cache_write_tokens": 500_000,
                "output_tokens": 10**6,
            }
            expected = theirs.calc_price(genai.Usage(**counts), provider, genai_request_timestamp=AT)
            off = abs(cost_pico(rates, Usage(**counts)) - expected.total_price * 10**12)
            # Half a pico for each token at most.
            assert off <= 10**6


class TestKnownPrices:
    """Prices as the providers' pages had them on 2026-11-22, USD for a million tokens."""

    @pytest.mark.parametrize(
        ("provider", "model", "read", "written", "cached", "cache_written"),
        [
            ("openai", "gpt-4o-mini", "0.15", "0.6", "0.075", None),
            ("openai", "gpt-4.1-nano", "0.1", "0.4", "0.025", None),
            ("openai", "gpt-5-mini", "0.25", "2", "0.025", None),
            ("anthropic", "claude-haiku-4-5", "1", "5", "0.1", "1.25"),
            ("anthropic", "claude-3-haiku", "0.25", "1.25", "0.03", "0.3"),
            ("google", "gemini-2.5-flash", "0.3", "2.5", "0.03", None),
        ],
    )
    def test_stand_in_the_book(
        self, provider: str, model: str, read: str, written: str, cached: str, cache_written: str | None
    ) -> None:
        rates = next(ours.rates(AT) for p, m, ours in packaged() if (p.id, m.id) == (provider, model))
        assert rates is not None
        units = {unit: pico_to_usd(pairs[0][1], units=10**6) for unit, pairs in rates.units.items()}
        assert units["input_tokens"] == read
        assert units["output_tokens"] == written
        assert units["cache_read_tokens"] == cached
        assert units.get("cache_write_tokens") == cache_written
