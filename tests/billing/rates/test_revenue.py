"""Revenue of all customers is what each of them is charged, whoever adds it up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from billing.services.charges import InvalidPeriod
from billing.services.revenue import Revenue, revenue
from noburn.kit.money import NANO, divide_even
from tests.billing.rates.office import DAY, END, HOUR, START, assign, card, change, owed

if TYPE_CHECKING:
    from tests.billing.book import Book

pytestmark = pytest.mark.real_db

PLAIN = {"markup_percent": "20"}
LOSING = {"markup_percent": "-40.5"}
RATED = {
    "markup_percent": "10",
    "rules": [
        {
            "provider": "openai",
            "rates": [
                {"unit": "input", "price_usd": "2.5"},
                {"unit": "cache_read", "price_usd": "0.31"},
                {"unit": "output", "price_usd": "10"},
                {"unit": "requests", "price_usd": "0.001"},
            ],
        }
    ],
}
TIERED = {
    "markup_percent": "33.3333",
    "included_usd": "1.5",
    "tiers": [{"above_usd": "2", "percent": "75"}, {"above_usd": "5", "percent": "50.0001"}],
}
BY_UNITS = {
    "rules": [
        {
            "rates": [
                {
                    "unit": "input",
                    "price_usd": "3",
                    "included": 10_000,
                    "tiers": [{"above": 50_000, "price_usd": "1.000000001"}],
                }
            ]
        }
    ]
}


def earned(book: Book, **options: Any) -> Revenue:
    book.roll()
    return revenue(
        **{
            "tenant_id": book.tenant_id,
            "starts_at": START,
            "until": END,
            "limit": 100,
            "now": END + DAY,
            **options,
        }
    )


def used(book: Book, customers: list[str], seed: int) -> None:
    """A month of calls by some customers."""
    chance = random.Random(seed)
    for customer in customers:
        for _ in range(12):
            output, reads = chance.randint(0, 9_000), chance.randint(0, 5_000)
            book.call(
                customer,
                START + chance.randrange(30 * 24) * HOUR,
                cost_nano=chance.randrange(2 * NANO),
                model=chance.choice(["openai/gpt-4o", "openai/gpt-4o-mini", "anthropic/claude-haiku-4-5"]),
                usage={
                    "input_tokens": reads + chance.randint(0, 20_000),
                    "cache_read_tokens": reads,
                    "audio_input_tokens": chance.randint(0, 50),
                    "output_tokens": output,
                    "reasoning_tokens": chance.randint(0, output),
                },
            )


class TestRevenue:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_what_each_customer_is_charged(self, book: Book, seed: int) -> None:
        plain, losing, rated = card(book, PLAIN), card(book, LOSING, "losing"), card(book, RATED, "rated")
        tiered, by_units = card(book, TIERED, "tiered"), card(book, BY_UNITS, "by units")
        assign(book, [plain, rated, tiered][seed])
        change(book, plain, RATED, START + 4 * DAY + 3 * HOUR)
        assign(book, losing, START - DAY, "loser")
        assign(book, rated, START, "rated")
        assign(book, tiered, START - DAY, "tiered")
        assign(book, by_units, START - DAY, "units")
        assign(book, tiered, START + 9 * DAY, "moved")
        customers = ["acme", "globex", "loser", "rated", "tiered", "units", "moved"]
        used(book, customers, seed)
        book.call("presumed", START, cost_nano=NANO, state="presumed")
        book.call("", START, cost_nano=NANO)
        found = earned(book)
        assert {item.customer for item in found.items} == {*customers, "presumed", ""}
        charges = owed(book.tenant_id, [*customers, "presumed"])
        for item in found.items:
            if item.customer:
                charge = charges[item.customer]
                assert (item.revenue_nano, item.cost_nano, item.presumed_nano) == (
                    divide_even(charge.exact_yocto, 10**15),
                    charge.cost_nano,
                    charge.presumed_nano,
                ), item.customer
            else:
                assert (item.revenue_nano, item.cost_nano) == (0, NANO)
        exact = sum(charge.exact_yocto for charge in charges.values())
        assert found.totals.revenue_nano == divide_even(exact, 10**15)
        assert found.totals.cost_nano == NANO + sum(charge.cost_nano for charge in charges.values())
        margins = [item.place for item in found.items]
        assert margins == sorted(margins)
        assert found.customers == len(found.items)

    def test_is_paged_with_the_losing_ones_first(self, book: Book) -> None:
        assign(book, card(book, PLAIN))
        assign(book, card(book, LOSING, "losing"), START, "loser")
        used(book, ["acme", "globex", "loser"], 1)
        whole = earned(book)
        assert whole.items[0].customer == "loser"
        assert whole.items[0].margin_nano < 0 < whole.items[1].margin_nano
        after, seen = None, []
        while (page := earned(book, limit=1, after=after)).items:
            seen += page.items
            after = page.items[-1].place
            assert page.totals == whole.totals
        assert seen == whole.items

    def test_is_nothing_without_use_or_a_card(self, book: Book) -> None:
        assert earned(book).items == []
        book.call("acme", START, cost_nano=NANO)
        (only,) = earned(book).items
        assert (only.revenue_nano, only.margin_nano) == (0, -NANO)

    def test_prices_everybody_singly_where_the_default_needs_it(self, book: Book) -> None:
        made = card(book, TIERED)
        assign(book, made)
        change(book, made, BY_UNITS, START + DAY)
        assign(book, card(book, PLAIN, "plain"), START, "plain")
        customers = ["acme", "globex", "plain"]
        used(book, customers, 5)
        found = earned(book)
        charges = owed(book.tenant_id, customers)
        assert {item.customer: item.revenue_nano for item in found.items} == {
            name: charge.total_nano for name, charge in charges.items()
        }

    def test_says_so_when_too_many_would_have_to_be_priced_singly(
        self, book: Book, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("billing.services.revenue.SINGLY_MAX", 1)
        assign(book, card(book, BY_UNITS))
        used(book, ["acme", "globex"], 1)
        with pytest.raises(InvalidPeriod, match="more than 1 customers"):
            earned(book)
