"""Costs against genai-prices, and the client's bound against the server's: two programs, one rule."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN
from pathlib import Path
from typing import Any

import msgspec
import pytest
from genai_prices import types as genai
from hypothesis import example, given, settings
from hypothesis import strategies as st
from noburn_sdk import estimate

from budgets.domain.pricing import Rates, UnpricedUnit, Usage, bound_nano, compile_rates, cost_nano
from budgets.domain.pricing_book import PriceBook, ProviderEntry
from budgets.domain.pricing_list import price_list
from tests.budgets.test_pricing import THEIR_NAMES, calls, is_whole_pico, packaged, rates_of_anything

SINCE = datetime(2025, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CONTEXTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("batch", {"processing": "batch"}),
    ("flex", {"service_tier": "flex"}),
    ("priority", {"service_tier": "priority"}),
    ("fast", {"speed": "fast"}),
)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "pricing.json").read_text(encoding="utf-8"))


def random_counts(rng: random.Random, prices: Any) -> dict[str, Any]:
    """Counts whose parts lie within their totals and overlap in no way that a price could depend on."""
    total = rng.choice((rng.randrange(2_000), rng.randrange(300_000), rng.randrange(1_500_000)))
    output = rng.randrange(64_000)
    counts: dict[str, Any] = {"input_tokens": total, "output_tokens": output}
    left = total
    for name in ("cache_read_tokens", "cache_write_tokens", "audio_input_tokens"):
        if rng.random() < 0.5:
            counts[name] = rng.randint(0, left)
            left -= counts[name]
    if rng.random() < 0.5 and getattr(prices, "cache_write_1h_mtok", None) is not None:
        counts["cache_write_1h_tokens"] = rng.randint(0, counts.get("cache_write_tokens", 0))
    for name in ("reasoning_tokens", "audio_output_tokens"):
        if rng.random() < 0.4:
            counts[name] = rng.randint(0, output)
            output -= counts[name]
    return counts


def random_usages(models: int, each: int) -> Iterator[tuple[Any, Any, Rates, dict[str, Any], Any, datetime]]:
    """Usages of models drawn at random, at a time and on a service tier that are drawn as well."""
    rng = random.Random(20261122)
    all_models = packaged()
    # Those that vary most are drawn more often than they are sold.
    varied = [found for found in all_models if found[1].price_variants or isinstance(found[1].prices, list)]
    drawn = 0
    for provider, theirs, ours in rng.sample(varied, models // 2) + rng.sample(all_models, len(all_models)):
        at = SINCE + timedelta(minutes=rng.randrange(2 * 365 * 24 * 60))
        rates = ours.rates(at)
        contexts = [
            (name, context)
            for name, context in CONTEXTS
            if any(variant.when == context for variant in theirs.price_variants or ())
        ]
        if rates is None or not (rates.prices_input and rates.prices_output):
            continue
        if not all(is_whole_pico(theirs.get_prices(at, context)) for _, context in [*contexts, ("", None)]):
            continue
        for _ in range(each):
            name, context = rng.choice([("default", None), *contexts])
            counts = random_counts(rng, theirs.get_prices(at, context))
            yield provider, theirs, rates, counts, (name, context), at
        drawn += 1
        if drawn == models:
            return


class TestCostsAgainstGenaiPrices:
    """Half to even, once, at the end: genai-prices computes in Decimal and does not round."""

    def test_are_equal_to_the_nano_on_random_usages_of_random_models(self) -> None:
        compared: dict[str, set[Any]] = {"models": set(), "tiers": set(), "fields": set(), "long": set()}
        results = 0
        for provider, theirs, rates, counts, (tier, context), at in random_usages(200, 20):
            values = {THEIR_NAMES.get(field, field): count for field, count in counts.items()}
            values["cache_audio_read_tokens"] = 0
            expected = theirs.calc_price(
                genai.Usage(**values), provider, genai_request_timestamp=at, price_context=context
            )
            nano = int((expected.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))
            found = cost_nano(rates, Usage(service_tier=tier, **counts))
            assert found == nano, (provider.id, theirs.id, tier, counts, at)
            results += 1
            compared["models"].add((provider.id, theirs.id))
            compared["tiers"].add(tier)
            compared["fields"] |= {field for field, count in counts.items() if count}
            if any(counts["input_tokens"] > start for start in rates.starts):
                compared["long"].add(theirs.id)
        assert results == 4_000
        assert len(compared["models"]) >= 190
        assert {"default", "batch", "flex", "priority", "fast"} == compared["tiers"]
        assert {"cache_write_1h_tokens", "audio_input_tokens", "reasoning_tokens"} <= compared["fields"]
        assert len(compared["long"]) >= 5

    def test_are_never_above_the_bound_of_their_own_counts(self) -> None:
        for _, theirs, rates, counts, (tier, _), _ in random_usages(100, 10):
            cost = cost_nano(rates, Usage(service_tier=tier, **counts))
            bound = bound_nano(
                rates,
                input_tokens=counts["input_tokens"],
                max_output_tokens=counts["output_tokens"],
                service_tier=tier,
            )
            assert cost <= bound, (theirs.id, tier, counts)


def client_rates(rates: Rates) -> estimate.Rates:
    """Returns the server's rates as the client takes them."""
    return estimate.Rates(rates.model, rates.units, {name: one.units for name, one in rates.variants.items()})


class TestTheClientsBound:
    @pytest.mark.parametrize(
        "case", [case for case in VECTORS["cases"] if "bound" in case], ids=lambda case: case["name"]
    )
    def test_agrees_with_the_shared_vectors(self, case: dict[str, Any]) -> None:
        rates = estimate.Rates("m", case["units"], case.get("variants") or {})
        if "bound_nano" in case:
            assert estimate.bound_nano(rates, **case["bound"]) == case["bound_nano"]
        else:
            with pytest.raises(estimate.UnpricedError):
                estimate.bound_nano(rates, **case["bound"])

    @settings(max_examples=400, deadline=None)
    @given(rates_of_anything, calls())
    def test_is_the_servers(self, rates: Rates, call: tuple[dict[str, Any], Usage]) -> None:
        bound, _ = call
        assert estimate.bound_nano(client_rates(rates), **bound) == bound_nano(rates, **bound)

    def test_is_the_servers_for_every_model_of_its_price_list(self) -> None:
        sold: dict[str, list[Any]] = {}
        for _, _, ours in packaged():
            sold.setdefault(ours.provider, []).append(ours)
        asked: list[dict[str, Any]] = [
            {"input_tokens": 1_234, "max_output_tokens": 567},
            {"input_tokens": 450_000, "max_output_tokens": 8_000, "n": 2, "cached_input_tokens": 1_000},
            {"input_tokens": 30, "max_output_tokens": 1, "text_only": True, "service_tier": "batch"},
            {"input_tokens": 9_999, "max_output_tokens": 77, "service_tier": "auto", "images": 2},
        ]
        compared = 0
        for provider, models in sold.items():
            entries = tuple(ours.entry for ours in models)
            book = PriceBook(1, [ProviderEntry(provider, None, None, (), entries)])
            listed = json.loads(msgspec.json.encode(price_list(book, provider=provider, now=NOW)))
            for ours in models:
                if ours.rates(NOW) is None:
                    continue
                rates = estimate.rates_from({"prices": listed}, ours.entry.model, provider=provider)
                # Where prices depend on the hour the client holds the dearest.
                hours = [ours.rates(NOW.replace(hour=hour)) for hour in range(24)]
                for counts in asked:
                    try:
                        bounds = {bound_nano(at_hour, **counts) for at_hour in hours}
                    except UnpricedUnit:
                        with pytest.raises(estimate.UnpricedError):
                            estimate.bound_nano(rates, **counts)
                        continue
                    found = estimate.bound_nano(rates, **counts)
                    if len(bounds) == 1:
                        assert found == max(bounds), (provider, ours.entry.model, counts)
                    else:
                        assert found >= max(bounds), (provider, ours.entry.model, counts)
                    compared += 1
        assert compared > 7_500

    def test_takes_the_dearer_of_two_times_of_day_from_each_tier_on(self) -> None:
        def item(*prices: tuple[int, str]) -> dict[str, Any]:
            tiers = [
                {"above_input_tokens": start, "usd_per_million_tokens": usd} for start, usd in prices[1:]
            ]
            price = {"usd_per_million_tokens": prices[0][1], "tiers": tiers}
            return {"provider": "p", "model": "m", "variant": "standard", "prices": {"input_tokens": price}}

        by_day, by_night = item((0, "1"), (200_000, "5")), item((0, "2"))
        rates = estimate.rates_from({"prices": [by_day, by_night]}, "m")
        assert estimate.bound_nano(rates, input_tokens=1_000, max_output_tokens=0) == 2_000_000
        assert estimate.bound_nano(rates, input_tokens=300_000, max_output_tokens=0) == 1_500_000_000

    @settings(max_examples=200, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(("input_tokens", "output_tokens", "images", "web_searches", "requests")),
            st.integers(0, 10**9),
        ),
        st.dictionaries(st.sampled_from(("web_search", "file_search", "hologram")), st.integers(0, 3)),
        st.integers(0, 10_000),
        st.integers(0, 5),
    )
    @example({"output_tokens": 1}, {}, 0, 1)
    def test_refuses_what_has_no_price_where_the_server_does(
        self, prices: dict[str, int], tools: dict[str, int], tokens: int, images: int
    ) -> None:
        rates = compile_rates(
            provider="p", model="m", units={name: [(0, price)] for name, price in prices.items()}
        )
        asked: dict[str, Any] = {
            "input_tokens": tokens,
            "max_output_tokens": 10,
            "images": images,
            "tool_calls": tools,
        }
        try:
            bound = bound_nano(rates, **asked)
        except UnpricedUnit:
            with pytest.raises(estimate.UnpricedError):
                estimate.bound_nano(client_rates(rates), **asked)
        else:
            assert estimate.bound_nano(client_rates(rates), **asked) == bound
