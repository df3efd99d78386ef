"""Comparisons of what a real gateway settled: to the nano, by calls and by sums."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from budgets.domain.comparison_figures import Figures, Note, Versus
from budgets.domain.pricing import cost_nano
from budgets.domain.pricing_book import AmbiguousProvider, Model
from budgets.domain.pricing_rates import Rates, Usage
from budgets.services.comparison import Basis
from budgets.services.price_overrides import NewPriceOverride, create_price_override
from budgets.services.prices import price_book
from noburn.kit.problems import Invalid
from tests.budgets.comparison.traffic import HAIKU, MINI, call, compared, roll

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

MODELS = ("gpt-4o-mini", "gpt-4.1-nano", "claude-haiku-4-5", "claude-sonnet-4-5", "gemini-2.5-pro")
LINEAR = ("gpt-4o-mini", "gpt-4.1-nano", "claude-haiku-4-5")


def rates_of(model: str) -> Rates:
    found = price_book().resolve(None, model, datetime.now(UTC))
    assert isinstance(found, Rates), found
    return found


def random_usage(chance: random.Random, most: int = 300_000) -> dict[str, Any]:
    sent, made = chance.randrange(1, most), chance.randrange(1, 5_000)
    read = chance.randrange(sent) if chance.random() < 0.6 else 0
    write = chance.randrange(sent - read + 1) if chance.random() < 0.4 else 0
    return {
        "input_tokens": sent,
        "output_tokens": made,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": chance.randrange(write + 1),
        "reasoning_tokens": chance.randrange(made),
    }


def codes(figures: Any) -> set[str]:
    return {note.value for note, _ in figures.comparison.notes}


class TestOnItsOwnModel:
    def test_traffic_costs_what_the_ledger_recorded_to_the_nano(self, alice: Account) -> None:
        chance = random.Random(7)
        for at in range(60):
            usage = random_usage(chance)
            if at % 5 == 0:
                usage["service_tier"] = chance.choice(["batch", "flex", "priority", "default"])
            call(alice, chance.choice(MODELS), usage, customer=f"c{at % 3}")
        for model in MODELS:
            provider = rates_of(model).provider
            made = compared(alice, f"{provider}/{model}", model=model)
            assert made.basis is Basis.CALLS
            (versus,) = made.comparison.totals.versus
            recorded = sum(entry["cost"] for entry in alice.ledger() if entry["model"] == model)
            assert versus.actual_nano == recorded
            assert versus.cached_nano == recorded
            assert made.comparison.totals.list_nano == recorded
            assert versus.calls == made.comparison.totals.calls > 0
            assert not versus.left_out

    def test_traffic_costs_what_it_did_with_a_negotiated_price_too(self, alice: Account) -> None:
        create_price_override(
            tenant_id=alice.tenant_id,
            override=NewPriceOverride(provider="openai", discount_percent="20"),
            actor="test",
            now=datetime.now(UTC),
        )
        call(alice, "gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 100, "cache_read_tokens": 4_000})
        figures = compared(alice, MINI).comparison.totals
        (entry,) = alice.ledger()
        assert figures.versus[0].cached_nano == figures.actual_nano == entry["cost"]
        assert figures.list_nano * 8 == figures.actual_nano * 10
        assert compared(alice, MINI).comparison.candidates[0].priced.override.startswith("pov_")  # type: ignore[union-attr]


class TestOnAnotherModel:
    def test_traffic_costs_what_a_settlement_would_record(self, alice: Account) -> None:
        chance, usages = random.Random(9), []
        for _ in range(20):
            usages.append(random_usage(chance, 100_000))
            call(alice, "gpt-4o-mini", usages[-1])
        (versus,) = compared(alice, HAIKU).comparison.totals.versus
        haiku = rates_of("claude-haiku-4-5")
        assert versus.cached_nano == sum(cost_nano(haiku, Usage(**usage)) for usage in usages)
        bare = [
            Usage(
                input_tokens=usage["input_tokens"],
                output_tokens=usage["output_tokens"],
                reasoning_tokens=usage["reasoning_tokens"],
            )
            for usage in usages
        ]
        assert versus.plain_nano == sum(cost_nano(haiku, usage) for usage in bare)
        own = [cost_nano(rates_of("gpt-4o-mini"), usage) for usage in bare]
        assert compared(alice, HAIKU).comparison.totals.plain_nano == sum(own)

    def test_token_counts_are_multiplied_for_another_tokenizer_alone(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 1_000, "output_tokens": 100})
        made = compared(alice, f"{HAIKU},openai/gpt-4.1-nano", token_factor="1.35")
        haiku, nano = made.comparison.totals.versus
        assert haiku.cached_nano == cost_nano(
            rates_of("claude-haiku-4-5"), Usage(input_tokens=1_350, output_tokens=135)
        )
        assert nano.cached_nano == cost_nano(
            rates_of("gpt-4.1-nano"), Usage(input_tokens=1_000, output_tokens=100)
        )
        assert (Note.TOKENIZERS_DIFFER, HAIKU) in made.comparison.notes
        assert (Note.TOKENIZERS_DIFFER, "openai/gpt-4.1-nano") not in made.comparison.notes

    def test_calls_that_it_cannot_take_are_left_out_and_counted(self, alice: Account) -> None:
        call(alice, "gemini-2.5-pro", {"input_tokens": 400_000, "output_tokens": 10})
        call(alice, "gemini-2.5-pro", {"input_tokens": 10, "output_tokens": 10})
        call(alice, "gemini-2.5-flash", {"input_tokens": 500, "output_tokens": 5, "audio_input_tokens": 400})
        found = {"input_tokens": 500, "output_tokens": 5, "tool_calls": {"file_search": 1}}
        call(alice, "gpt-4o", found)
        made = compared(alice, f"{MINI},{HAIKU}")
        versus, haiku = made.comparison.totals.versus
        assert by_why(versus) == {"context_window": 1, "unpriced_units": 1}
        assert by_why(haiku) == {"context_window": 1, "unpriced_units": 2}
        assert (versus.calls, haiku.calls) == (2, 1)
        assert haiku.cached_nano == cost_nano(
            rates_of("claude-haiku-4-5"), Usage(input_tokens=10, output_tokens=10)
        )
        # What it is compared with is the cost of the same call.
        assert haiku.actual_nano == cost_nano(
            rates_of("gemini-2.5-pro"), Usage(input_tokens=10, output_tokens=10)
        )
        assert {"context_window", "unpriced_units", "tokenizers_differ"} <= codes(made)

    def test_a_service_tier_that_it_has_no_price_for_is_said(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 1_000, "output_tokens": 10, "service_tier": "priority"})
        made = compared(alice, HAIKU)
        assert "priority" not in rates_of("claude-haiku-4-5").variants
        assert made.comparison.notes[Note.SERVICE_TIER, HAIKU] == 1

    def test_writes_that_nobody_told_are_the_upper_end_of_a_range(self, alice: Account) -> None:
        usage = {"input_tokens": 21_000, "output_tokens": 100, "cache_read_tokens": 20_000}
        call(alice, "gpt-4o-mini", usage)
        made = compared(alice, f"{HAIKU},openai/gpt-4.1-nano")
        totals = made.comparison.totals
        # A thousand tokens at 1.25 in place of 1 USD for a million.
        assert totals.unseen_writes_nano(0) == 250_000
        assert totals.unseen_writes_nano(1) is None
        assert (Note.CACHE_WRITES_UNSEEN, HAIKU) in made.comparison.notes
        call(alice, "claude-haiku-4-5", {**usage, "cache_write_tokens": 1_000})
        assert (
            compared(alice, HAIKU, model="claude-haiku-4-5").comparison.totals.unseen_writes_nano(0) is None
        )

    def test_breaks_even_where_the_rates_say(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 20_500, "output_tokens": 100})
        found = compared(alice, HAIKU).comparison.totals.break_even(0)
        assert found is not None
        # 20,500 in at .15 and 100 out at .60 against 20,500 at 1 - .9 h and 100 at 5.
        share = found.cached_share.at
        assert share is not None
        assert 20_500 * (1 - share * 9 / 10) + 500 == 20_500 * 15 / 100 + 60
        assert found.cached_share.cheaper == "above"
        assert found.cached_share_of_both.cheaper == "never"

    def test_with_several_tiers_at_once_has_no_closed_form(self, alice: Account) -> None:
        for sent in (1_000, 250_000):
            call(alice, "gpt-4.1-nano", {"input_tokens": sent, "output_tokens": 10})
        totals = compared(alice, "google/gemini-2.5-pro").comparison.totals
        assert totals.versus[0].calls == 2
        assert totals.break_even(0) is None


class TestRates:
    def test_really_paid_are_below_list_by_what_the_cache_saves(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 100, "cache_read_tokens": 8_000})
        totals = compared(alice).comparison.totals
        # 2,000 at .15 and 8,000 at .075, in pico-USD for a token.
        assert totals.paid_rate(range(6)) == 90_000
        assert totals.list_rate(range(6)) == 150_000
        assert totals.paid_rate(range(6, 9)) == totals.list_rate(range(6, 9)) == 600_000
        assert (totals.cache_read_tokens, totals.input_tokens) == (8_000, 10_000)

    def test_are_of_the_model_that_answered(self, alice: Account) -> None:
        call(
            alice, "gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 100}, reported="gpt-4o-2024-08-06"
        )
        totals = compared(alice, "openai/gpt-4o").comparison.totals
        assert totals.list_nano == totals.actual_nano == totals.versus[0].cached_nano
        assert totals.paid_rate(range(6)) == 2_500_000

    def test_leave_out_costs_that_a_client_told(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 100}, cost_usd="0.5")
        call(alice, "gpt-4o-mini", {"input_tokens": 10_000, "output_tokens": 100})
        made = compared(alice, MINI)
        totals = made.comparison.totals
        assert totals.paid_rate(range(6)) == 150_000
        assert totals.versus[0].actual_nano == 500_000_000 + 1_560_000
        assert totals.versus[0].cached_nano == 2 * 1_560_000
        assert made.comparison.amounts[Note.TOLD_COST] == 500_000_000


class TestWhatIsLeftOut:
    def test_is_a_call_that_nothing_was_counted_of(self, alice: Account) -> None:
        alice.settle(alice.place("$0.25"), "$0.25")
        alice.settle(alice.place("$0.40"), usage=None)
        alice.void(alice.place("$0.10"))
        roll()
        made = compared(alice, MINI)
        assert made.comparison.totals.calls == 0
        assert made.comparison.amounts[Note.NOT_COUNTED] == 250_000_000
        assert made.comparison.amounts[Note.PRESUMED] == 400_000_000
        assert made.calls_in_period == 2


class TestGroups:
    def test_by_tag_customer_and_project_add_up(self, alice: Account) -> None:
        for at in range(6):
            call(
                alice,
                MODELS[at % 2],
                {"input_tokens": 1_000 * (at + 1), "output_tokens": 10},
                customer=f"c{at % 3}",
                tags={"task": ["chat", "mail"][at % 2]} if at else {},
            )
        roll()
        for calls_max in (20_000, 1):
            whole = compared(alice, MINI, calls_max=calls_max)
            assert {names for names, _ in whole.groups} == {("openai", model) for model in MODELS[:2]}
            for group, names in (("customer", {"c0", "c1", "c2"}), ("tag:task", {"chat", "mail"})):
                made = compared(alice, MINI, calls_max=calls_max, group_by=group)
                assert {name for (name,), _ in made.groups} == names
                totals = made.comparison.totals
                assert sum(figures.actual_nano for _, figures in made.groups) == totals.actual_nano
                assert totals.calls == (5 if group == "tag:task" else 6)
                costs = [figures.actual_nano for _, figures in made.groups]
                assert costs == sorted(costs, reverse=True)
            (only,) = compared(alice, MINI, calls_max=calls_max, group_by="customer", limit="1").groups
            assert only[0] == ("c2",)

    def test_can_be_filtered(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 1_000}, customer="a", tags={"task": "chat"})
        call(alice, "gpt-4.1-nano", {"input_tokens": 1_000}, customer="b", tags={"task": "mail"})
        roll()
        for calls_max in (20_000, 0):
            for query in (
                {"customer": "a"},
                {"model": "gpt-4o-mini"},
                {"tag": "task:chat"},
                {"tag": "task:chat", "group_by": "tag:task"},
            ):
                totals = compared(alice, calls_max=calls_max, **query).comparison.totals
                assert (totals.calls, totals.actual_nano) == (1, 150_000), query
            assert compared(alice, calls_max=calls_max, provider="openai").comparison.totals.calls == 2
            assert compared(alice, calls_max=calls_max, customer="c").comparison.totals.calls == 0


class TestSums:
    def test_say_what_calls_say_up_to_half_a_nano_a_call(self, alice: Account) -> None:
        chance = random.Random(3)
        for at in range(60):
            usage = random_usage(chance, 100_000)
            call(alice, chance.choice(LINEAR), usage, customer=f"c{at % 3}")
        roll()
        models = f"{MINI},{HAIKU},openai/gpt-4.1-nano"
        for group in ("model", "customer"):
            calls = compared(alice, models, group_by=group)
            sums = compared(alice, models, group_by=group, calls_max=1)
            assert (calls.basis, sums.basis) == (Basis.CALLS, Basis.ROLLUPS)
            assert [names for names, _ in calls.groups] == [names for names, _ in sums.groups]
            pairs = [(calls.comparison.totals, sums.comparison.totals)]
            pairs += [(a, b) for (_, a), (_, b) in zip(calls.groups, sums.groups, strict=True)]
            for by_calls, by_sums in pairs:
                same(by_calls, by_sums)

    def test_with_a_token_factor_differ_by_what_is_rounded_of_a_token(self, alice: Account) -> None:
        chance = random.Random(4)
        for _ in range(20):
            call(alice, "gpt-4o-mini", random_usage(chance, 50_000))
        roll()
        (calls,) = compared(alice, HAIKU, token_factor="1.35").comparison.totals.versus
        (sums,) = compared(alice, HAIKU, token_factor="1.35", calls_max=1).comparison.totals.versus
        # Two totals a call are rounded up, and its parts down; the dearest token is 5,000 nano-USD.
        assert 0 <= calls.cached_nano - sums.cached_nano + 6 * 5_000 <= 20 * 8 * 5_000

    def test_are_not_used_where_long_input_costs_more(self, alice: Account) -> None:
        for sent in (1_000, 250_000, 2_000):
            call(alice, "gemini-2.5-pro", {"input_tokens": sent, "output_tokens": 10})
        roll()
        made = compared(alice, MINI, calls_max=2)
        assert (made.basis, made.comparison.totals.calls, made.calls_in_period) == (Basis.SAMPLE, 2, 3)
        assert made.comparison.notes[Note.SAMPLE, ""] == 3
        assert made.calls_from is not None
        newest = compared(alice, MINI, calls_max=3)
        assert (newest.basis, newest.comparison.totals.calls) == (Basis.CALLS, 3)

    def test_are_not_used_where_the_candidate_has_tiers(self, alice: Account) -> None:
        for _ in range(3):
            call(alice, "gpt-4o-mini", {"input_tokens": 1_000, "output_tokens": 10})
        roll()
        assert compared(alice, "google/gemini-2.5-pro", calls_max=2).basis is Basis.SAMPLE
        assert compared(alice, MINI, calls_max=2).basis is Basis.ROLLUPS

    def test_are_not_used_where_the_candidate_s_price_goes_by_the_time_of_day(self, alice: Account) -> None:
        usage: dict[str, Any] = {"input_tokens": 1_000, "output_tokens": 10}
        for _ in range(3):
            call(alice, "gpt-4o-mini", usage)
        roll()
        made = compared(alice, "deepseek/deepseek-chat", calls_max=2)
        assert made.basis is Basis.SAMPLE
        steps = made.comparison.candidates[0].rates.steps
        assert len(steps) > 1
        costs = {cost_nano(rates, Usage(**usage)) for _, rates in steps if rates is not None}
        assert made.comparison.totals.versus[0].cached_nano in {a + b for a in costs for b in costs}

    def test_are_not_used_where_they_do_not_explain_what_was_recorded(self, alice: Account) -> None:
        for tier in ("default", "default", "batch"):
            call(
                alice,
                "gpt-4o-mini",
                {"input_tokens": 1_000, "output_tokens": 10, "service_tier": tier},
            )
        roll()
        assert compared(alice, HAIKU, calls_max=2).basis is Basis.SAMPLE

    def test_are_used_with_a_word_where_little_is_unexplained(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 100_000, "output_tokens": 10})
        call(alice, "gpt-4o-mini", {"input_tokens": 10, "output_tokens": 1, "service_tier": "batch"})
        roll()
        made = compared(alice, HAIKU, calls_max=1)
        assert made.basis is Basis.ROLLUPS
        # Ten in and one out at half of .15 and .60.
        assert made.comparison.amounts[Note.UNEXPLAINED] == 1_050

    def test_warn_of_a_smaller_context_window_and_of_no_larger_one(self, alice: Account) -> None:
        for _ in range(2):
            call(alice, "gpt-4.1-nano", {"input_tokens": 1_000, "output_tokens": 10})
        roll()
        made = compared(alice, f"{MINI},openai/gpt-4.1-mini", calls_max=1)
        assert made.basis is Basis.ROLLUPS
        assert (Note.CONTEXT_WINDOW_UNCHECKED, MINI) in made.comparison.notes
        assert (Note.CONTEXT_WINDOW_UNCHECKED, "openai/gpt-4.1-mini") not in made.comparison.notes


class TestModels:
    @pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "gpt-4o-mini", "OpenAI/gpt-4o-mini-2024-07-18"])
    def test_are_known_by_the_names_that_calls_use(self, alice: Account, name: str) -> None:
        (candidate,) = compared(alice, name).comparison.candidates
        assert candidate.name == MINI
        assert candidate.context_window == 128_000

    def test_can_be_a_tenant_s_own(self, alice: Account) -> None:
        with pytest.raises(Invalid, match="models"):
            compared(alice, "shed/our-llama")
        prices = [
            {"unit": "input_tokens", "price": "0.0000001"},
            {"unit": "output_tokens", "price": "0.0000002"},
        ]
        create_price_override(
            tenant_id=alice.tenant_id,
            override=NewPriceOverride(provider="shed", model="our-llama", prices=own_prices(prices)),
            actor="test",
            now=datetime.now(UTC),
        )
        call(alice, "gpt-4o-mini", {"input_tokens": 1_000, "output_tokens": 100})
        made = compared(alice, "shed/our-llama")
        assert made.comparison.totals.versus[0].cached_nano == 1_000 * 100 + 100 * 200
        assert made.comparison.candidates[0].name == "shed/our-llama"

    def test_sold_by_several_need_a_seller(self, alice: Account) -> None:
        book = price_book()
        name = next(
            model.entry.model
            for provider in book.providers
            for model in book.models(provider)
            if isinstance(book.find(None, model.entry.model), AmbiguousProvider)
            and not isinstance(book.find(*model.entry.model.partition("/")[::2]), Model)
        )
        with pytest.raises(Invalid, match="sold by several"):
            compared(alice, name)


def by_why(versus: Versus) -> dict[str, int]:
    return {why.value: count for why, count in versus.left_out.items()}


def own_prices(prices: list[dict[str, Any]]) -> Any:
    from budgets.services.price_overrides import OverridePrice

    return tuple(OverridePrice(**price) for price in prices)


def same(by_calls: Figures, by_sums: Figures) -> None:
    assert by_calls.calls == by_sums.calls
    assert by_calls.parts == by_sums.parts
    assert by_calls.actual_nano == by_sums.actual_nano
    for name in ("list_nano", "plain_nano"):
        assert abs(getattr(by_calls, name) - getattr(by_sums, name)) * 2 <= by_calls.calls
    assert by_calls.paid_rate(range(6)) == by_sums.paid_rate(range(6))
    for at, (a, b) in enumerate(zip(by_calls.versus, by_sums.versus, strict=True)):
        assert (a.calls, a.actual_nano, a.left_out) == (b.calls, b.actual_nano, b.left_out)
        assert abs(a.cached_nano - b.cached_nano) * 2 <= by_calls.calls
        assert abs(a.plain_nano - b.plain_nano) * 2 <= by_calls.calls
        assert by_calls.break_even(at) == by_sums.break_even(at)


class TestTime:
    def test_outside_of_the_period_does_not_count(self, alice: Account) -> None:
        call(alice, "gpt-4o-mini", {"input_tokens": 1_000, "output_tokens": 10})
        before = datetime.now(UTC) - timedelta(days=1)
        made = compared(alice, from_=(before - timedelta(days=1)).isoformat(), to=before.isoformat())
        assert made.comparison.totals.calls == 0
        for period in ("7d", "30d", "month"):
            assert compared(alice, period=period).comparison.totals.calls == 1
