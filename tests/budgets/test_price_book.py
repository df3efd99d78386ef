"""The price book in memory: names and dates, patterns, the dearest of a family, and the list that it prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from budgets.domain.pricing import Rates, Usage, cost_nano
from budgets.domain.pricing_book import CACHE_SIZE, AmbiguousProvider, PriceBook, PriceEntry, UnknownModel
from budgets.domain.pricing_list import price_list
from budgets.domain.pricing_match import BadPattern, compile_pattern, with_dashed_date
from tests.budgets.price_books import BOOK, NOW, START, entry, model, provider, resolved


class TestResolve:
    def test_prefers_the_exact_name_to_an_earlier_pattern(self) -> None:
        assert resolved("gpt-9-mini", seller="openai") == ("openai", "gpt-9-mini")
        assert resolved("gpt-9-turbo", seller="openai") == ("openai", "gpt-9")

    def test_ignores_case_in_names_of_providers_and_models(self) -> None:
        assert resolved("GPT-9-Mini", seller=" OpenAI ") == ("openai", "gpt-9-mini")

    def test_recognises_a_provider_by_its_pattern(self) -> None:
        assert resolved("gpt-9", seller="my-openai-proxy") == ("openai", "gpt-9")

    def test_infers_the_maker_before_any_reseller(self) -> None:
        assert resolved("gpt-9") == ("openai", "gpt-9")

    def test_infers_the_only_seller_of_an_exact_name(self) -> None:
        assert resolved("only-here") == ("reseller", "only-here")

    def test_infers_the_only_seller_with_a_pattern(self) -> None:
        assert resolved("odd-17") == ("other", "odd")

    def test_asks_which_when_several_sell_it(self) -> None:
        assert BOOK.resolve(None, "shared-1", NOW) == AmbiguousProvider("shared-1", ("reseller", "other"))

    def test_looks_at_the_models_that_a_provider_resells(self) -> None:
        assert resolved("gpt-9-mini", seller="azure") == ("openai", "gpt-9-mini")

    def test_reads_a_compact_date_as_a_dashed_one(self) -> None:
        assert resolved("gpt-9-20260102", seller="azure")[1] == "gpt-9"
        exact = PriceBook(1, [provider("p", model("m-2026-01-02"))])
        assert resolved("m-20260102", seller="p", book=exact) == ("p", "m-2026-01-02")

    @pytest.mark.parametrize(
        ("seller", "name", "reason"),
        [
            ("nobody", "gpt-9", "provider"),
            ("openai", "claude", "model"),
            (None, "claude", "model"),
            (None, "", "model"),
        ],
    )
    def test_says_what_is_unknown(self, seller: str | None, name: str, reason: str) -> None:
        found = BOOK.resolve(seller, name, NOW)
        assert isinstance(found, UnknownModel)
        assert found.reason == reason

    def test_cuts_an_absurd_name(self) -> None:
        found = BOOK.resolve(None, "x" * 10_000, NOW)
        assert isinstance(found, UnknownModel)
        assert len(found.model) == 200

    def test_forgets_names_beyond_its_bound(self) -> None:
        book = PriceBook(1, [provider("p", model("m"))])
        for number in range(CACHE_SIZE + 100):
            book.resolve(None, f"m{number}", NOW)
        assert len(book._found) == CACHE_SIZE


class TestDates:
    def book(self, *prices: PriceEntry) -> PriceBook:
        return PriceBook(1, [provider("p", model("m", prices=prices))])

    def test_choose_the_row_in_force(self) -> None:
        change = datetime(2026, 6, 1, tzinfo=UTC)
        book = self.book(
            entry("input_tokens", 100, 1, effective_to=change),
            entry("input_tokens", 50, 2, effective_from=change),
            entry("output_tokens", 7, 3),
        )
        before = book.resolve("p", "m", change - timedelta(microseconds=1))
        after = book.resolve("p", "m", change)
        assert isinstance(before, Rates)
        assert isinstance(after, Rates)
        assert (before.tiers[0].input, before.tiers[0].output, before.price_id) == (100, 7, 3)
        assert (after.tiers[0].input, after.tiers[0].output, after.price_id) == (50, 7, 3)

    def test_leave_a_gap_unpriced(self) -> None:
        end, again = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
        book = self.book(
            entry("input_tokens", 100, 1, effective_to=end),
            entry("input_tokens", 50, 2, effective_from=again),
        )
        assert isinstance(book.resolve("p", "m", end - timedelta(days=1)), Rates)
        assert book.resolve("p", "m", end) == UnknownModel("p", "m", "unpriced")
        assert book.resolve("p", "m", START - timedelta(days=1)) == UnknownModel("p", "m", "unpriced")
        assert isinstance(book.resolve("p", "m", again), Rates)

    def test_choose_by_the_time_of_day_in_utc(self) -> None:
        book = self.book(
            entry("input_tokens", 100, 1, daily_to=60),
            entry("input_tokens", 50, 2, daily_from=60),
        )
        for minute, pico in ((0, 100), (59, 100), (60, 50), (1439, 50)):
            rates = book.resolve("p", "m", NOW.replace(hour=minute // 60, minute=minute % 60))
            assert isinstance(rates, Rates)
            assert rates.tiers[0].input == pico

    def test_leave_a_model_with_prices_of_a_newer_release_unpriced(self) -> None:
        book = self.book(entry("input_tokens", 100), entry("thoughts", 5))
        assert book.resolve("p", "m", NOW) == UnknownModel("p", "m", "unpriced")

    def test_lay_a_variant_over_the_standard_prices(self) -> None:
        book = self.book(
            entry("input_tokens", 1000),
            entry("output_tokens", 2000),
            entry("input_tokens", 500, 3, variant="batch"),
        )
        rates = book.resolve("p", "m", NOW)
        assert isinstance(rates, Rates)
        usage = Usage(input_tokens=10, output_tokens=10, service_tier="batch")
        assert cost_nano(rates, usage) == 25


class TestDearest:
    def test_is_the_dearest_of_the_family_for_each_unit(self) -> None:
        rates = BOOK.dearest(None, "gpt-77", NOW)
        assert isinstance(rates, Rates)
        assert (rates.provider, rates.model, rates.variant) == ("openai", "gpt-77", "dearest")
        assert (rates.tiers[0].input, rates.tiers[0].output) == (900, 1800)

    def test_is_the_dearest_of_the_provider_when_there_is_no_such_family(self) -> None:
        rates = BOOK.dearest("reseller", "llama-9", NOW)
        assert isinstance(rates, Rates)
        assert rates.tiers[0].input == 100

    def test_is_unknown_when_nobody_claims_the_name(self) -> None:
        assert BOOK.dearest(None, "llama-9", NOW) == UnknownModel(None, "llama-9", "provider")


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "match", "other"),
        [
            ({"equals": "GPT-4"}, "gpt-4", "gpt-4o"),
            ({"starts_with": "gpt"}, "gpt-4", "a-gpt"),
            ({"ends_with": "mini"}, "gpt-mini", "mini-x"),
            ({"contains": "haiku"}, "claude-haiku-4", "claude"),
            ({"regex": r"^o\d"}, "o3-mini", "omni"),
            ({"or": [{"equals": "a"}, {"equals": "B"}]}, "b", "c"),
            ({"or": [{"equals": "a"}, {"starts_with": "b"}]}, "bb", "c"),
            ({"and": [{"starts_with": "a"}, {"ends_with": "z"}]}, "abz", "ab"),
        ],
    )
    def test_match_as_their_kind_says(self, pattern: Any, match: str, other: str) -> None:
        assert compile_pattern(pattern)(match)
        assert not compile_pattern(pattern)(other)

    @pytest.mark.parametrize(
        "pattern", [{}, {"equals": ""}, {"like": "x"}, {"or": []}, {"regex": "("}, [], {"a": 1, "b": 2}]
    )
    def test_refuse_what_cannot_be_compiled(self, pattern: Any) -> None:
        with pytest.raises(BadPattern):
            compile_pattern(pattern)

    def test_refuse_to_be_nested_without_end(self) -> None:
        pattern: dict[str, Any] = {"equals": "a"}
        for _ in range(10):
            pattern = {"and": [pattern]}
        with pytest.raises(BadPattern, match="nested"):
            compile_pattern(pattern)

    def test_leave_a_number_that_is_no_date(self) -> None:
        assert with_dashed_date("m-20260230") == "m-20260230"
        assert with_dashed_date("m-20260228:free") == "m-2026-02-28:free"


class TestPriceList:
    def test_writes_decimal_strings_for_a_million_tokens(self) -> None:
        tiered = (
            entry("input_tokens", 150_000),
            entry("input_tokens", 300_000, 2, tier_start=200_000),
            entry("web_searches", 10**10, 3),
            entry("input_tokens", 75_000, 4, variant="batch"),
        )
        book = PriceBook(1, [provider("p", model("m", prices=tiered, context_window=128_000))])
        standard, batch = price_list(book, provider="p", now=NOW)
        assert standard == {
            "provider": "p",
            "model": "m",
            "variant": "standard",
            "price_id": "4",
            "override": None,
            "currency": "USD",
            "effective_from": "2020-01-01T00:00:00+00:00",
            "effective_to": None,
            "daily": None,
            "deprecated": False,
            "context_window": 128_000,
            "prices": {
                "input_tokens": {
                    "usd_per_million_tokens": "0.15",
                    "tiers": [{"above_input_tokens": 200_000, "usd_per_million_tokens": "0.3"}],
                },
                "web_searches": {"usd_per_unit": "0.01"},
            },
        }
        assert batch["variant"] == "batch"
        assert batch["prices"]["input_tokens"] == {"usd_per_million_tokens": "0.075"}

    def test_is_empty_for_an_unknown_provider(self) -> None:
        assert price_list(BOOK, provider="nobody", now=NOW) == []

    def test_has_an_etag_that_changes_with_version_and_dates(self) -> None:
        change = datetime(2026, 12, 1, tzinfo=UTC)
        dated = (
            entry("input_tokens", 1, effective_to=change),
            entry("input_tokens", 2, effective_from=change),
        )
        book = PriceBook(1, [provider("p", model("m", prices=dated))])
        newer = PriceBook(2, [provider("p", model("m", prices=dated))])
        tags = {book.etag(NOW), book.etag(change), newer.etag(NOW), book.etag(NOW, provider="p")}
        assert len(tags) == 4
        assert book.etag(NOW) == book.etag(NOW + timedelta(days=1))
