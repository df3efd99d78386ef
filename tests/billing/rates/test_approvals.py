"""Presumed spending is billed once a person lets it be, and until somebody knows better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from billing.domain.charging import Charge
from billing.queries.approvals import Presumed
from billing.services.approvals import Approved, InvalidApproval, approve_presumed
from noburn.kit.money import NANO
from tenants.models import AuditEntry
from tests.billing.rates.office import DAY, END, START, assign, card, owed

if TYPE_CHECKING:
    from tests.billing.book import Book

pytestmark = pytest.mark.real_db

TERMS = {"markup_percent": "50", "included_usd": "0"}


def charged(book: Book) -> Charge:
    book.roll()
    return owed(book.tenant_id, ["acme"])["acme"]


def approve(book: Book, *, reason: str = "seen in the provider's invoice", **wanted: Any) -> Approved:
    return approve_presumed(
        wanted=Presumed(tenant_id=book.tenant_id, **wanted), reason=reason, actor="user:bob", now=END
    )


@pytest.fixture
def hold(book: Book) -> UUID:
    assign(book, card(book, TERMS))
    return book.call("acme", START + DAY, cost_nano=2 * NANO, state="presumed")


class TestApproval:
    def test_lets_one_hold_be_billed_and_says_who_and_why(self, book: Book, hold: UUID) -> None:
        assert (charged(book).total_nano, charged(book).presumed_nano) == (0, 2 * NANO)
        assert approve(book, hold_id=hold).cost_nano == 2 * NANO
        found = charged(book)
        assert (found.total_nano, found.presumed_nano, found.cost_nano) == (3 * NANO, 0, 2 * NANO)
        entry = AuditEntry.objects.get(tenant_id=book.tenant_id, action="presumed.approve")
        assert entry.actor == "user:bob"
        assert entry.after is not None
        assert entry.after["reason"] == "seen in the provider's invoice"

    @pytest.mark.parametrize(("state", "cost", "total"), [("settled", NANO, 1.5), ("voided", 0, 0)])
    def test_gives_way_to_what_is_known_later(
        self, book: Book, hold: UUID, state: str, cost: int, total: float
    ) -> None:
        approve(book, hold_id=hold)
        book.call("acme", START + DAY, cost_nano=cost, state=state, hold=hold)
        # Until the sums have it, they and the approval still say the same.
        assert owed(book.tenant_id, ["acme"])["acme"].total_nano in (3 * NANO, total * NANO)
        assert charged(book).total_nano == total * NANO

    def test_takes_a_customers_time_and_leaves_others_alone(self, book: Book, hold: UUID) -> None:
        book.call("acme", START + 2 * DAY, cost_nano=NANO, state="presumed")
        book.call("acme", START + 3 * DAY, cost_nano=NANO, state="presumed")
        book.call("globex", START + DAY, cost_nano=NANO, state="presumed")
        times: dict[str, Any] = {"since": START + DAY, "until": START + 3 * DAY}
        found = approve(book, customer="acme", **times)
        assert (len(found.approvals), found.cost_nano, found.more) == (2, 3 * NANO, False)
        assert charged(book).total_nano == 4_500_000_000
        with pytest.raises(InvalidApproval, match="no presumed call"):
            approve(book, customer="acme", **times)

    def test_names_everything_that_is_wrong(self, book: Book, hold: UUID) -> None:
        with pytest.raises(InvalidApproval) as caught:
            approve(book, reason="")
        assert [error.field for error in caught.value.errors] == ["reason", "customer", "starts_at"]
        for other in (uuid4(), book.call("acme", START, cost_nano=1)):
            with pytest.raises(InvalidApproval, match="no presumed call"):
                approve(book, hold_id=other)
        with pytest.raises(InvalidApproval, match="names no customer"):
            approve(book, hold_id=book.call("", START, cost_nano=1, state="presumed"))
