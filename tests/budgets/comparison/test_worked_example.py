"""docs/compare.md's worked example: every number in it comes from the price book, by the functions that settle."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from budgets.domain.comparison import Comparison
from budgets.domain.comparison_figures import Call, Candidate, DayRates, Figures
from budgets.domain.pricing import cost_nano
from budgets.domain.pricing_rates import Rates, Usage
from budgets.services.price_seed import seed_prices
from budgets.services.prices import price_book
from noburn.kit.money import to_usd
from noburn.runtime.embedded import ROOT

pytestmark = pytest.mark.real_db

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
CALLS = 1_000
PREFIX, QUESTION = 20_000, 300
ANSWERS = (50, 150, 500)
READS = (10, 30, 100)


@pytest.fixture(scope="module")
def rates(real_database: None) -> dict[str, Rates]:
    seed_prices()
    book = price_book()
    found = {}
    for name, provider, model in (
        ("mini", "openai", "gpt-4o-mini"),
        ("haiku", "anthropic", "claude-haiku-4-5"),
    ):
        rates = book.resolve(provider, model, AT)
        assert isinstance(rates, Rates)
        found[name] = rates
    return found


def text() -> str:
    return (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")


def usage(answer: int, *, read: int = 0, written: int = 0) -> Usage:
    return Usage(
        input_tokens=PREFIX + QUESTION,
        output_tokens=answer,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )


def usd(nano: int) -> str:
    """The cost of 1,000 calls, to the cent."""
    return format(Decimal(to_usd(nano * CALLS)).quantize(Decimal("0.01")), "f")


def figures(rates: dict[str, Rates], used: Usage, factor: str = "1") -> Figures:
    """One call of GPT-4o mini, compared with Claude Haiku 4.5."""
    haiku = Candidate(
        name="anthropic/claude-haiku-4-5",
        rates=DayRates(steps=((0, rates["haiku"]),)),
        context_window=200_000,
    )
    made = Comparison([haiku], Decimal(factor))
    cost = cost_nano(rates["mini"], used)
    made.add_call(
        Call(
            group=(),
            placed_at=AT,
            model="gpt-4o-mini",
            usage=used,
            cost_nano=cost,
            paid=rates["mini"],
            listed=rates["mini"],
        )
    )
    return made.totals


def percent(share: Fraction | None) -> str:
    assert share is not None
    return f"{float(share * 100):.1f} %"


class TestWorkedExample:
    def test_costs_what_its_table_says(self, rates: dict[str, Rates]) -> None:
        rows = (
            ("GPT-4o mini, nothing cached", "mini", 0),
            ("GPT-4o mini, the prefix read from its cache", "mini", PREFIX),
            ("Claude Haiku 4.5, nothing cached", "haiku", 0),
            ("Claude Haiku 4.5, the prefix read from its cache", "haiku", PREFIX),
        )
        for title, name, read in rows:
            costs = [usd(cost_nano(rates[name], usage(answer, read=read))) for answer in ANSWERS]
            assert f"| {title} | {' | '.join(costs)} |" in text()

    def test_breaks_even_where_it_says(self, rates: dict[str, Rates]) -> None:
        for answer in ANSWERS:
            found = figures(rates, usage(answer)).break_even(0)
            assert found is not None
            share = found.cached_share
            shown = f"from {percent(share.at)}" if share.at is not None else str(share.cheaper)
            assert found.cached_share_of_both.cheaper == "never"
            assert f"| {answer} | {shown} | {found.cached_share_of_both.cheaper} |" in text()

    def test_has_the_longest_answer_for_which_haiku_is_cheaper(self, rates: dict[str, Rates]) -> None:
        def saved(answer: int) -> int:
            own = cost_nano(rates["mini"], usage(answer))
            return own - cost_nano(rates["haiku"], usage(answer, read=PREFIX))

        longest = max(answer for answer in range(1, 1_000) if saved(answer) > 0)
        assert f"shorter than {longest + 1} tokens" in text()

    def test_counts_what_writing_the_prefix_costs(self, rates: dict[str, Rates]) -> None:
        own = cost_nano(rates["mini"], usage(50))
        first = cost_nano(rates["haiku"], usage(50, written=PREFIX))
        others = cost_nano(rates["haiku"], usage(50, read=PREFIX))
        for reads in READS:
            mean = Fraction(first + reads * others, reads + 1)
            assert f"| {reads} | {usd(round(mean))} | {'yes' if mean < own else 'no'} |" in text()
        enough = next(reads for reads in range(1, 1_000) if first + reads * others < (reads + 1) * own)
        assert f"read at least {enough} times" in text()

    def test_turns_over_with_more_tokens(self, rates: dict[str, Rates]) -> None:
        """Haiku's tokens are counted by another tokenizer: a few percent more eat up all that is saved."""
        own = cost_nano(rates["mini"], usage(50))
        other = cost_nano(rates["haiku"], usage(50, read=PREFIX))
        most = Fraction(own, other)
        assert f"{float(most):.3f} times as many" in text()
        # The same by the API's own figure, for calls that were cached on both.
        cached = figures(rates, usage(50, read=PREFIX)).break_even(0)
        assert cached is not None
        assert cached.token_factor is not None
        assert cached.token_factor.at == Fraction(cost_nano(rates["mini"], usage(50, read=PREFIX)), other)

    def test_names_the_rates_of_the_book(self, rates: dict[str, Rates]) -> None:
        for name, title in (("mini", "GPT-4o mini"), ("haiku", "Claude Haiku 4.5")):
            units = rates[name].units
            prices = [
                format(Decimal(units[unit][0][1]).scaleb(-6).normalize(), "f") if unit in units else "none"
                for unit in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
            ]
            assert f"| {title} | {' | '.join(prices)} |" in text()
        assert f"The prefix is {percent(Fraction(PREFIX, PREFIX + QUESTION))} of the input" in text()
