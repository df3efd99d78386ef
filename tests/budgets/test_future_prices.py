"""A price that begins later: held and settled at from that instant on, by a gateway that has not been restarted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING

import msgspec
import pytest
from django.core.management import CommandError, call_command

from budgets.domain.authorization import Hold
from budgets.domain.pricing import Usage
from budgets.domain.pricing_book import PriceBook
from budgets.gateway.preflight import price
from budgets.gateway.settle import report_of
from budgets.gateway.wire import Preflight, Settle
from budgets.models import PriceProvider, PriceRow
from budgets.services.price_proposals import NewProposal, approve, propose
from budgets.services.prices import NewPrice, add_price
from tests.tenants.cast import unique

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

CHANGE = datetime(2030, 1, 1, tzinfo=UTC)
BEFORE = CHANGE - timedelta(milliseconds=1)


@pytest.fixture
def seller(real_database: None) -> str:
    """A provider of one model, `m-1`, at 1 and 2 USD for a million tokens in and out."""
    name = unique("vendor")
    PriceProvider.objects.create(id=name, name=name, position=10_000)
    now = datetime.now(UTC)
    for unit, usd in (("input_tokens", "0.000001"), ("output_tokens", "0.000002")):
        add_price(
            price=NewPrice(name, "m-1", unit, usd, now - timedelta(days=1), "a page", now),
            now=now,
            new_model=True,
        )
    return name


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("prices", *arguments, stdout=out)
    return out.getvalue()


def newest(alice: Account) -> PriceBook:
    """What the gateway holds after its next look at the database, which it takes every few seconds."""
    books = alice.world.app._plane.books
    alice.world.run(books._load())
    return books.book


def held(alice: Account, seller: str, *, at: datetime) -> int:
    """What a gateway holds for 1,000 tokens in and out at a time."""
    snapshot = alice.world.app._plane.snapshots.get(alice.tenant_id)
    assert snapshot is not None
    request = Preflight(model="m-1", provider=seller, input_tokens=1000, max_output_tokens=1000)
    found = price(request, snapshot=snapshot, book=newest(alice), now=at)
    assert found is not None
    return found.bound(1000).cost_nano


def settled(alice: Account, hold: Hold, *, placed_at: datetime) -> int:
    """What the same hold costs when it was placed at a time."""
    placed = msgspec.structs.replace(hold, placed_ms=round(placed_at.timestamp() * 1000))
    request = Settle(authorization="", usage=Usage(input_tokens=1000, output_tokens=1000))
    return report_of(request, placed, newest(alice))[0].cost_nano


class TestFuturePrice:
    def test_is_held_and_settled_at_from_its_instant_on(self, alice: Account, seller: str) -> None:
        newest(alice)
        placed = alice.place(model="m-1", provider=seller, input_tokens=1000, max_output_tokens=1000)
        assert placed["hold"]["amount_usd"] == "0.003"
        run("add", f"{seller}/m-1", "input_tokens", "0.000005", "--source", "x", "--from", CHANGE.isoformat())
        assert [held(alice, seller, at=at) for at in (BEFORE, CHANGE)] == [3_000_000, 7_000_000]
        hold = alice.hold_of(placed)
        assert [settled(alice, hold, placed_at=at) for at in (BEFORE, CHANGE)] == [3_000_000, 7_000_000]
        # What is called today is not touched by it.
        usage = {"input_tokens": 1000, "output_tokens": 1000}
        assert alice.settle(placed, usage=usage)["cost_usd"] == "0.003"

    def test_comes_out_of_a_proposal_as_well(self, alice: Account, seller: str) -> None:
        alice.place(model="m-1", provider=seller, input_tokens=1, max_output_tokens=1)
        now = datetime.now(UTC)
        proposal = NewProposal(
            provider=seller,
            model="m-1",
            unit="output_tokens",
            price="0.000001",
            effective_from=CHANGE,
            source="x",
        )
        approve(
            proposal_id=propose(proposal=proposal, actor="user:a", now=now).pk, actor="operator:1", now=now
        )
        assert [held(alice, seller, at=at) for at in (BEFORE, CHANGE)] == [3_000_000, 2_000_000]

    def test_is_announced_by_show_and_by_the_end_of_the_price_in_the_list(
        self, alice: Account, seller: str
    ) -> None:
        run("add", f"{seller}/m-1", "input_tokens", "0.000005", "--source", "x", "--from", CHANGE.isoformat())
        shown = run("show", f"{seller}/m-1").splitlines()
        assert "$1 a million" in shown[1]
        assert shown[3].startswith("  from 2030-01-01 00:00 UTC: standard   input_tokens")
        assert "$5 a million" in shown[3]
        newest(alice)
        answer = alice.world.request("GET", f"/v1/prices?provider={seller}", secret=alice.secret)
        (item,) = answer["prices"]
        assert item["prices"]["input_tokens"] == {"usd_per_million_tokens": "1"}
        assert item["effective_to"] == "2030-01-01T00:00:00+00:00"


class TestAdd:
    def test_says_what_it_appended(self, seller: str) -> None:
        said = run("add", f"{seller}/m-2", "input_tokens", "0.000003", "--source", "the page", "--new-model")
        assert f"{seller}/m-2 standard input_tokens at 0.000003 USD" in said

    def test_gives_gateways_time_to_hear_of_a_price_that_ends_another(self, seller: str) -> None:
        began = datetime.now(UTC)
        run("add", f"{seller}/m-1", "input_tokens", "0.000003", "--source", "the page")
        old, new = PriceRow.objects.filter(price_model__provider_id=seller, unit="input_tokens").order_by(
            "effective_from"
        )
        assert old.effective_to == new.effective_from >= began + timedelta(minutes=1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("m-1", "input_tokens", "1"), "PROVIDER/MODEL"),
            (("{}/m-9", "input_tokens", "1"), "is not a model of"),
            (("{}/m-1", "parsecs", "1"), "unit: must be one of"),
            (("{}/m-1", "input_tokens", "1e-7"), "price: "),
            (("{}/m-1", "input_tokens", "1", "--from", "2030-01-01"), "time zone"),
            (("{}/m-1", "input_tokens", "1", "--from", "2026-11-01T00:00:00Z"), "overlaps|must not be past"),
            (("{}/m-1", "input_tokens", "1", "--to", "2020-01-01T00:00:00Z"), "later than effective_from"),
        ],
    )
    def test_names_what_is_wrong(self, seller: str, arguments: tuple[str, ...], message: str) -> None:
        with pytest.raises(CommandError, match=message):
            run("add", *(each.format(seller) for each in arguments), "--source", "x")
        assert PriceRow.objects.filter(price_model__provider_id=seller).count() == 2
