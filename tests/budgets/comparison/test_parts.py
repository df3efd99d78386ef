"""A usage taken apart costs what it costs whole, and closed forms meet where two costs are equal."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from budgets.domain.comparison import is_linear, sums_nano
from budgets.domain.comparison_break_even import BreakEven, Cheaper, Crossing, Mix, break_even, crossing
from budgets.domain.comparison_parts import (
    PARTS,
    TEXT_INPUT,
    Flat,
    Flats,
    parts_of,
    scaled,
    uncached,
    uncached_parts,
)
from budgets.domain.pricing import check_usage, compile_rates, cost_pico
from budgets.domain.pricing_rates import Rates, UnpricedUnit, Usage
from budgets.domain.tokenizers import MOST, tokenizer_of

UNITS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_reasoning_tokens",
    "output_audio_tokens",
    "images",
)
counts = st.integers(0, 300_000)
prices = st.integers(0, 20_000_000)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    plain, read, write, hour, audio, output, reasoning, speech = (draw(counts) for _ in range(8))
    cached_audio = draw(st.integers(0, min(read, audio)))
    return Usage(
        input_tokens=plain + read + write + hour + audio - cached_audio,
        cache_read_tokens=read,
        cache_write_tokens=write + hour,
        cache_write_1h_tokens=hour,
        audio_input_tokens=audio,
        output_tokens=output + reasoning + speech,
        reasoning_tokens=reasoning,
        audio_output_tokens=speech,
        images=draw(st.integers(0, 5)),
        units=draw(st.sampled_from([{}, {"cache_audio_read_tokens": cached_audio}])) if audio else {},
        service_tier=draw(st.sampled_from([None, "batch", "priority"])),
    )


@st.composite
def some_rates(draw: st.DrawFn) -> Rates:
    own = draw(st.sets(st.sampled_from(UNITS[2:])))
    starts = draw(st.lists(st.integers(1, 500_000), max_size=2, unique=True))
    units: dict[str, Any] = {
        unit: [(0, draw(prices)), *([] if unit == "images" else [(start, draw(prices)) for start in starts])]
        for unit in ("input_tokens", "output_tokens", *sorted(own))
    }
    units["requests"] = [(0, draw(prices))]
    batch = {"input_tokens": [(0, draw(prices))], "output_tokens": [(0, draw(prices))]}
    return compile_rates(provider="p", model="m", units=units, variants={"batch": batch})


def flat_of(**per_million_usd: str) -> Flat:
    units = {unit: [(0, int(Decimal(price) * 10**6))] for unit, price in per_million_usd.items()}
    return Flats().of(compile_rates(provider="p", model="m", units=units), None, 0)


class TestParts:
    @given(usage=usages(), rates=some_rates())
    def test_cost_together_what_a_settlement_costs(self, usage: Usage, rates: Rates) -> None:
        flat = Flats().of(rates, usage.service_tier, usage.input_tokens)
        assert flat.pico(parts_of(usage)) + flat.per_request == cost_pico(rates, usage)

    @given(usage=usages())
    def test_lose_no_token(self, usage: Usage) -> None:
        parts = parts_of(usage)
        assert sum(parts[:6]) == usage.input_tokens
        assert sum(parts[6:9]) == usage.output_tokens

    @given(usage=usages())
    def test_without_a_cache_are_those_of_the_usage_without_one(self, usage: Usage) -> None:
        bare = uncached(usage)
        assert (bare.cache_read_tokens, bare.cache_write_tokens) == (0, 0)
        assert bare.input_tokens == usage.input_tokens
        if not usage.audio_input_tokens:
            assert uncached_parts(parts_of(usage)) == parts_of(bare)

    @given(usage=usages(), factor=st.decimals("0.1", "10", places=4))
    def test_counted_by_another_tokenizer_still_fit_together(self, usage: Usage, factor: Decimal) -> None:
        assume(usage.input_tokens * factor < 10**9)
        other = scaled(usage, factor)
        check_usage(other)
        cost_pico(compile_rates(provider="p", model="m", units=FREE), other)
        assert 0 <= other.input_tokens - usage.input_tokens * factor < 1
        assert 0 <= other.output_tokens - usage.output_tokens * factor < 1

    def test_without_a_price_are_an_error_and_not_free(self) -> None:
        flat = flat_of(input_tokens="1")
        with pytest.raises(UnpricedUnit, match="output"):
            flat.pico([0, 0, 0, 0, 0, 0, 1, 0, 0, 0])
        assert sums_nano(flat.rates, [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]) is None
        assert len(flat.unit) == len(PARTS)

    def test_are_linear_without_tiers_and_fees_for_each_request(self) -> None:
        plain = {"input_tokens": [(0, 1)], "output_tokens": [(0, 1)]}
        assert is_linear(compile_rates(provider="p", model="m", units=plain))
        tiers: dict[str, Any] = {**plain, "input_tokens": [(0, 1), (200_000, 2)]}
        assert not is_linear(compile_rates(provider="p", model="m", units=tiers))
        fees: dict[str, Any] = {**plain, "requests": [(0, 1)]}
        assert not is_linear(compile_rates(provider="p", model="m", units=fees))


FREE = {"input_tokens": [(0, 0)], "output_tokens": [(0, 0)]}
rates_of_text = st.builds(
    flat_of,
    input_tokens=st.decimals("0.01", "20", places=2).map(str),
    output_tokens=st.decimals("0.01", "90", places=2).map(str),
    cache_read_tokens=st.decimals("0.01", "20", places=2).map(str),
    cache_write_tokens=st.decimals("0.01", "30", places=2).map(str),
)
mixes = st.builds(
    Mix,
    parts=st.tuples(*[st.integers(0, 10**6)] * 4, *[st.just(0)] * 2, *[st.integers(0, 10**5)] * 2).map(
        lambda parts: [*parts, 0, 0]
    ),
    paid=rates_of_text,
    candidate=rates_of_text,
    factor=st.sampled_from([Fraction(1), Fraction(27, 20)]),
)


def cost(
    mixes: list[Mix], share: Fraction, *, candidate: bool, per_read: Fraction, hour: Fraction
) -> Fraction:
    """What the calls cost had such a share of text been read from a cache: counted out token by token."""
    total = Fraction(0)
    for mix in mixes:
        flat, factor = (mix.candidate, mix.factor) if candidate else (mix.paid, Fraction(1))
        text = sum(mix.parts[at] for at in TEXT_INPUT)
        read, written = text * share, text * share * per_read
        parts = (text - read - written, read, written * (1 - hour), written * hour)
        total += factor * sum((parts[at] * flat.rate(at) for at in TEXT_INPUT), Fraction(0))
        total += factor * sum((mix.parts[at] * flat.rate(at) for at in range(4, 9)), Fraction(0))
    return total


def as_it_was(mixes: list[Mix]) -> Fraction:
    return Fraction(sum(mix.paid.pico(mix.parts) for mix in mixes))


class TestBreakEven:
    @given(every=st.lists(mixes, min_size=1, max_size=3))
    def test_is_where_costs_are_equal_and_cheaper_on_the_side_that_it_names(self, every: list[Mix]) -> None:
        found = break_even(every)
        assume(found is not None)
        assert isinstance(found, BreakEven)
        written = sum(mix.parts[at] for mix in every for at in (2, 3))
        hour = Fraction(sum(mix.parts[3] for mix in every), written) if written else Fraction(0)
        most = 1 / (1 + found.written_per_read)

        def other(share: Fraction) -> Fraction:
            return cost(every, share, candidate=True, per_read=found.written_per_read, hour=hour)

        def own(share: Fraction) -> Fraction:
            return cost(every, share, candidate=False, per_read=found.written_per_read, hour=hour)

        present = as_it_was(every)
        check(found.cached_share, lambda share: other(share) - present, most)
        check(found.cached_share_of_both, lambda share: other(share) - own(share), most)
        assert found.token_factor is not None
        if found.token_factor.at is not None:
            single = sum(Fraction(mix.candidate.pico(mix.parts)) for mix in every)
            assert found.token_factor.at * single == present
            assert found.token_factor.cheaper is Cheaper.BELOW

    @given(mix=mixes)
    def test_of_input_to_output_is_where_costs_are_equal(self, mix: Mix) -> None:
        found = break_even([mix])
        sent, made = sum(mix.parts[:6]), sum(mix.parts[6:9])
        assume(found is not None and sent and made)
        assert found is not None
        assert found.input_output_ratio is not None

        def difference(ratio: Fraction) -> Fraction:
            inward = mix.factor * mix.candidate.pico(mix.parts, which=range(6)) - mix.paid.pico(
                mix.parts, which=range(6)
            )
            outward = mix.factor * mix.candidate.pico(mix.parts, which=range(6, 9)) - mix.paid.pico(
                mix.parts, which=range(6, 9)
            )
            return ratio * inward / sent + outward / made

        check(found.input_output_ratio, difference, Fraction(10**9))

    def test_of_nothing_sent_is_none(self) -> None:
        flat = flat_of(input_tokens="1", output_tokens="1")
        assert break_even([]) is None
        assert break_even([Mix([0] * 6 + [5, 0, 0, 0], flat, flat, Fraction(1))]) is None

    @pytest.mark.parametrize(
        ("begin", "slope", "end", "cheaper", "at"),
        [
            (1, -2, 1, Cheaper.ABOVE, Fraction(1, 2)),
            (-1, 2, 1, Cheaper.BELOW, Fraction(1, 2)),
            (1, -2, Fraction(1, 4), Cheaper.NEVER, None),
            (-1, 2, Fraction(1, 4), Cheaper.ALWAYS, None),
            (0, 0, 1, Cheaper.SAME, None),
            (0, 1, 1, Cheaper.NEVER, None),
            (0, -1, None, Cheaper.ALWAYS, None),
            (5, 0, None, Cheaper.NEVER, None),
            (5, -1, None, Cheaper.ABOVE, Fraction(5)),
        ],
    )
    def test_says_which_side(
        self, begin: Any, slope: Any, end: Any, cheaper: Cheaper, at: Fraction | None
    ) -> None:
        limit = None if end is None else Fraction(end)
        assert crossing(Fraction(begin), Fraction(slope), limit) == Crossing(cheaper, at)


def check(found: Crossing, difference: Any, end: Fraction) -> None:
    """The difference has the sign that the crossing says, at both ends and at the point itself."""
    first, last = difference(Fraction(0)), difference(end)
    if found.cheaper in (Cheaper.ALWAYS, Cheaper.NEVER, Cheaper.SAME):
        assert found.at is None
        wanted = {Cheaper.ALWAYS: -1, Cheaper.NEVER: 1, Cheaper.SAME: 0}[found.cheaper]
        assert first * wanted >= 0
        assert last * wanted >= 0
        assert wanted or (first, last) == (0, 0)
        return
    assert found.at is not None
    assert difference(found.at) == 0
    assert (first > 0) is (found.cheaper is Cheaper.ABOVE)


class TestTokenizers:
    @pytest.mark.parametrize(
        ("model", "tokenizer"),
        [
            ("gpt-4o-mini-2024-07-18", "o200k"),
            ("gpt-4.1-nano", "o200k"),
            ("gpt-5-mini", "o200k"),
            ("o3-mini", "o200k"),
            ("gpt-4-turbo", "cl100k"),
            ("gpt-4-0613", "cl100k"),
            ("text-embedding-3-small", "cl100k"),
            ("claude-haiku-4-5-20251001", "claude"),
            ("claude-3-5-sonnet-latest", "claude"),
            ("us.anthropic.claude-opus-4-20250514-v1:0", "claude"),
            ("claude-opus-4-7", "claude-4.7"),
            ("claude-of-tomorrow", "claude-4.7"),
            ("gemini-2.5-flash", "gemini"),
            ("mistral-large-2411", "mistral"),
            ("42", "42"),
        ],
    )
    def test_are_known_by_the_model_s_name(self, model: str, tokenizer: str) -> None:
        assert tokenizer_of(model) == tokenizer

    def test_have_bounds_that_are_no_less_than_the_same(self) -> None:
        assert all(Decimal(most) >= 1 for most in MOST.values())
