"""What is owed for what the ledger says, over the real database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from billing.domain.charging import Charge
from billing.services.charges import InvalidPeriod, period_charge
from noburn.kit.money import NANO
from tenants.services.customers import CustomerNotFound, ensure_customer
from tests.billing.rates.office import DAY, EARLIER, END, HOUR, START, assign, card, change
from tests.billing.rates.office import owed as all_owed

if TYPE_CHECKING:
    from tests.billing.book import Book

pytestmark = pytest.mark.real_db


def owed(book: Book, until: datetime = END, customer: str = "acme", **options: Any) -> Charge:
    book.roll()
    return all_owed(book.tenant_id, [customer], until=until, **options)[customer]


class TestPeriodCharge:
    def test_marks_up_what_was_settled(self, book: Book) -> None:
        assign(book, card(book, {"markup_percent": "20"}))
        book.call("acme", START, cost_nano=3 * NANO)
        book.call("acme", END - HOUR, cost_nano=2 * NANO, model="anthropic/claude-haiku-4-5")
        book.call("acme", END, cost_nano=7 * NANO)
        book.call("globex", START, cost_nano=11 * NANO)
        found = owed(book)
        assert found.total_nano == 6 * NANO
        assert [(line.kind, line.model, line.cost_nano, line.charge_nano) for line in found.lines] == [
            ("cost", "claude-haiku-4-5", 2 * NANO, 2_400_000_000),
            ("cost", "gpt-4o-mini", 3 * NANO, 3_600_000_000),
        ]
        assert [version.number for version in found.versions] == [1]

    def test_bills_nothing_without_a_card(self, book: Book) -> None:
        book.call("acme", START, cost_nano=NANO)
        found = owed(book, final=True)
        assert (found.total_nano, found.cost_nano, found.unbilled_nano) == (0, NANO, NANO)
        assert found.versions == ()

    def test_is_found_by_the_customers_id(self, book: Book) -> None:
        assign(book, card(book, {"markup_percent": "0"}))
        customer, _ = ensure_customer(tenant_id=book.tenant_id, external_id="acme", actor="test", now=EARLIER)
        book.call("acme", START, cost_nano=NANO)
        book.roll()
        asked: dict[str, Any] = {"tenant_id": book.tenant_id, "starts_at": START, "until": END, "now": END}
        assert period_charge(customer_id=customer.pk, **asked).total_nano == NANO
        with pytest.raises(CustomerNotFound):
            period_charge(customer_id=book.tenant_id, **asked)

    def test_leaves_out_what_is_presumed_until_it_is_settled(self, book: Book) -> None:
        terms = {"rules": [{"markup_percent": "0", "rates": [{"unit": "requests", "price_usd": "0.5"}]}]}
        assign(book, card(book, terms))
        hold = book.call("acme", START, cost_nano=4 * NANO, state="presumed")
        found = owed(book)
        assert (found.total_nano, found.presumed_nano, found.cost_nano) == (0, 4 * NANO, 0)
        book.call("acme", START, cost_nano=NANO, usage={"input_tokens": 10}, hold=hold)
        found = owed(book)
        assert (found.total_nano, found.presumed_nano) == (1_500_000_000, 0)

    def test_prices_each_version_at_its_time(self, book: Book) -> None:
        made = card(book, {"markup_percent": "0"})
        assign(book, made)
        at = START + 3 * DAY + 5 * HOUR
        change(book, made, {"markup_percent": "100"}, at)
        book.call("acme", at - HOUR, cost_nano=NANO)
        book.call("acme", at, cost_nano=NANO)
        assign(book, None, at + DAY)
        book.call("acme", at + DAY, cost_nano=NANO)
        found = owed(book)
        assert (found.total_nano, found.unbilled_nano) == (3 * NANO, NANO)
        assert [version.number for version in found.versions] == [1, 2]

    def test_prefers_the_customers_own_card_while_it_holds(self, book: Book) -> None:
        assign(book, card(book, {"markup_percent": "0"}))
        own = card(book, {"markup_percent": "50"}, "own")
        assign(book, own, START + DAY, "acme")
        assign(book, None, START + 2 * DAY, "acme")
        for day in range(3):
            book.call("acme", START + day * DAY, cost_nano=NANO)
        assert owed(book).total_nano == 3_500_000_000

    def test_counts_a_minimum_and_rounding_at_the_end_alone(self, book: Book) -> None:
        terms = {"markup_percent": "0", "minimum_usd": "10", "rounding": {"to_usd": "0.01", "mode": "up"}}
        assign(book, card(book, terms))
        book.call("acme", START, cost_nano=1)
        assert owed(book).total_nano == 1
        assert owed(book, final=True).total_nano == 10 * NANO
        book.call("acme", START, cost_nano=10 * NANO)
        assert owed(book, final=True).total_nano == 10 * NANO + NANO // 100

    @pytest.mark.parametrize("at", [START + HOUR, START + DAY, START + 9 * DAY + 7 * HOUR, END - HOUR])
    def test_is_the_same_however_the_period_is_split(self, book: Book, at: datetime) -> None:
        terms = {
            "markup_percent": "17.1234",
            "included_usd": "0.5",
            "tiers": [{"above_usd": "1", "percent": "80"}],
        }
        assign(book, card(book, terms))
        for hour in range(0, 24 * 30, 7):
            book.call("acme", START + hour * HOUR, cost_nano=123_456_789 + hour)
        whole = owed(book)
        # A second card that says the same changes nothing, whenever it begins.
        assign(book, card(book, terms, "same"), at)
        again = owed(book)
        assert again.total_nano == whole.total_nano
        assert owed(book, until=at).total_nano <= whole.total_nano

    def test_names_what_is_wrong_with_a_period(self, book: Book) -> None:
        with pytest.raises(InvalidPeriod) as caught:
            owed(book, starts_at=START + timedelta(minutes=1), until=END + timedelta(days=500), final=True)
        assert [error.field for error in caught.value.errors] == ["starts_at", "until", "until"]
