"""Wallets pay what the card says, to the nano: what calls were charged one by one is trued up by the period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.domain.ceilings import ceilings
from billing.models import JournalLine, Wallet
from tests.billing.push.till import HOUR, MINUTE, NEXT, START
from tests.billing.rates import cards

if TYPE_CHECKING:
    from tests.billing.book import Book
    from tests.billing.wallets.keeper import Keeper

pytestmark = pytest.mark.real_db

NANO = 10**9
LARGE = 2_000_000 * NANO
INCLUDED = {"markup_percent": "0", "included_usd": "5"}
COUNTS = st.integers(0, 9_000)
CALLS = st.tuples(
    st.integers(0, 700),
    st.integers(0, 9 * NANO),
    st.sampled_from([f"{provider}/{model}" for provider, model in cards.MODELS]),
    st.fixed_dictionaries({"input_tokens": COUNTS, "output_tokens": COUNTS, "images": st.integers(0, 3)}),
)


@pytest.fixture
def keeper(book: Book) -> Keeper:
    """A customer of Alice's."""
    from tests.billing.wallets.keeper import Keeper

    return Keeper(book)


def storable(terms: Any) -> bool:
    """Whether a policy can hold the card's dearest rates: a unit costs less than 9 USD."""
    return all(value < 2**63 for row in ceilings(terms) for value in row.values() if isinstance(value, int))


class TestForAnyCard:
    @settings(
        max_examples=12,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        terms=cards.terms().filter(storable),
        calls=st.lists(CALLS, min_size=1, max_size=8),
        opened=st.sampled_from([0, 0, 300]),
        looks=st.sets(st.integers(1, 700), max_size=2),
        corrected=st.one_of(st.none(), st.integers(-9 * NANO, 9 * NANO)),
    )
    def test_wallet_and_stripe_pay_the_charge(
        self, book: Book, terms: Any, calls: list[Any], opened: int, looks: set[int], corrected: int | None
    ) -> None:
        from tests.billing.wallets.keeper import Keeper

        keeper = Keeper(book)
        keeper.card(terms)
        steps = [(opened, "open", None), *((hour, "look", None) for hour in sorted(looks) if hour > opened)]
        steps += [(hour, "use", call) for hour, *call in calls]
        hold, cost = None, 0
        for hour, what, call in sorted(steps, key=lambda step: (step[0], step[1])):
            keeper.now = max(keeper.now, START + hour * HOUR)
            if what == "open":
                keeper.open(LARGE)
            elif what == "look":
                keeper.work(keeper.now + 20 * MINUTE)
            elif call is not None:
                cost, model, usage = call
                hold = keeper.call(cost, model=model, usage=usage)
        self.end(keeper, from_the_start=opened == 0)
        if corrected and hold is not None:
            # A re-rating changes an hour that was trued up.
            book.rerate(hold, max(corrected, -cost))
            keeper.later(hours=2)
            keeper.work()
            self.end(keeper, from_the_start=opened == 0)

    def end(self, keeper: Keeper, *, from_the_start: bool) -> None:
        keeper.end()
        charge, rest = keeper.charge(final=True), keeper.over_stripe(whole=True)
        assert rest.complete
        assert rest.nano >= 0
        assert keeper.paid() == rest.wallet_nano
        assert keeper.paid() + rest.nano == charge.total_nano
        if from_the_start:
            # No card of these has a minimum; no rounding adds anything to whole nanos.
            assert keeper.paid() == charge.total_nano
        assert keeper.end() == 0
        keeper.check()


class TestTrueUps:
    def test_give_back_what_is_included_once(self, keeper: Keeper) -> None:
        keeper.card(INCLUDED)
        keeper.open(10 * NANO)
        keeper.call(7 * NANO)
        assert keeper.work() == 0
        assert keeper.paid() == 7 * NANO
        keeper.later(hours=1, minutes=19)
        assert keeper.work() == 0, "the hour is not closed yet"
        keeper.later(minutes=1)
        assert (keeper.work(), keeper.paid()) == (1, 2 * NANO)
        (posting,) = keeper.postings()
        assert posting.note == f"{START:%Y-%m-%dT%H:%MZ} to {START + HOUR:%Y-%m-%dT%H:%MZ}"
        lines = JournalLine.objects.filter(posting=posting).order_by("account")
        assert [(line.account, line.amount_nano) for line in lines] == [
            ("paid_credit", 5 * NANO),
            ("revenue", -5 * NANO),
        ]
        Wallet.objects.filter(pk=keeper.wallet.pk).update(true_up_at=keeper.now)
        assert keeper.work() == 0
        keeper.check()

    def test_raise_the_limit_of_the_wallet(self, keeper: Keeper) -> None:
        keeper.card(INCLUDED)
        keeper.open(6 * NANO)
        keeper.call(6 * NANO)
        keeper.work()
        limit = "SELECT limit_amount - spent FROM counters WHERE counter_id = %s"
        assert keeper.book.owner.execute(limit, [keeper.wallet.pk]).fetchone() == (0,)
        keeper.work(START + HOUR + 20 * MINUTE)
        assert keeper.book.owner.execute(limit, [keeper.wallet.pk]).fetchone() == (5 * NANO,)
        keeper.check()

    def test_are_taken_back_when_a_call_turns_out_to_be_less(self, keeper: Keeper) -> None:
        keeper.card(INCLUDED)
        keeper.open(10 * NANO)
        hold = keeper.call(7 * NANO)
        keeper.work(START + HOUR + 20 * MINUTE)
        keeper.book.rerate(hold, -4 * NANO)
        keeper.later(minutes=10)
        keeper.work()
        # Of the burn seven went back and three were taken: with the five of before two are too many.
        assert keeper.paid() == -2 * NANO
        keeper.check()
        keeper.later(hours=1)
        keeper.work()
        assert (keeper.paid(), keeper.returned()) == (0, 3 * NANO)
        assert keeper.wallet.owed_nano == 0
        keeper.check()

    def test_of_a_worker_that_is_killed_are_done_by_the_next(
        self, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from billing.services import true_ups

        keeper.card(INCLUDED)
        keeper.open(10 * NANO)
        keeper.call(7 * NANO)

        def killed(step: str) -> None:
            raise RuntimeError(step)

        with monkeypatch.context() as patch:
            patch.setattr(true_ups, "reached", killed)
            assert keeper.work(START + HOUR + 20 * MINUTE) == 0
        assert keeper.paid() == 7 * NANO
        keeper.later(minutes=5)
        assert (keeper.work(), keeper.paid()) == (1, 2 * NANO)
        keeper.check()

    def test_wait_until_what_is_summed_is_burnt(self, keeper: Keeper) -> None:
        from billing.services.true_ups import true_up

        keeper.card(INCLUDED)
        made = keeper.open(10 * NANO)
        keeper.call(7 * NANO)
        keeper.work()
        keeper.call(2 * NANO)
        keeper.book.roll()
        keeper.later(hours=2)
        found = true_up(tenant_id=keeper.tenant_id, wallet_id=made.pk, now=keeper.now)
        assert (found.postings, found.waits) == (0, True)
        assert not keeper.over_stripe().complete
        keeper.later(minutes=5)
        keeper.work()
        assert keeper.paid() == 4 * NANO
        assert keeper.over_stripe().complete

    def test_leave_calls_without_any_card_at_cost(self, keeper: Keeper) -> None:
        keeper.open(10 * NANO)
        keeper.call(7 * NANO)
        assert keeper.end() == 0
        assert keeper.paid() == 7 * NANO
        assert keeper.over_stripe().nano == 0

    def test_leave_minimum_and_rounding_to_the_invoice(self, keeper: Keeper) -> None:
        keeper.card({**INCLUDED, "minimum_usd": "4", "rounding": {"to_usd": "1", "mode": "up"}})
        keeper.open(10 * NANO)
        keeper.call(7_500_000_000)
        keeper.end()
        assert keeper.paid() == 2_500_000_000
        assert keeper.charge(final=True).total_nano == 4 * NANO
        assert keeper.over_stripe(whole=True).nano == 1_500_000_000

    def test_count_an_approved_presumption_once(self, keeper: Keeper) -> None:
        from billing.queries.approvals import Presumed
        from billing.services.approvals import approve_presumed

        keeper.card({"markup_percent": "0"})
        keeper.open(10 * NANO)
        keeper.call(3 * NANO)
        hold = keeper.call(2 * NANO, state="presumed")
        keeper.end()
        # What is presumed is put aside, and in no charge.
        assert (keeper.paid(), keeper.charge().total_nano) == (5 * NANO, 3 * NANO)
        wanted = Presumed(tenant_id=keeper.tenant_id, hold_id=hold)
        approve_presumed(wanted=wanted, reason="it is in the invoice", actor="test", now=keeper.now)
        keeper.end()
        assert (keeper.paid(), keeper.charge().total_nano) == (5 * NANO, 5 * NANO)
        assert keeper.over_stripe().nano == 0
        keeper.check()


class TestWalletsThatComeAndGo:
    def test_share_a_month_with_stripe(self, keeper: Keeper) -> None:
        keeper.card(INCLUDED)
        keeper.call(3 * NANO)
        keeper.later(days=1)
        keeper.open(10 * NANO)
        keeper.call(4 * NANO)
        keeper.later(days=1)
        keeper.work()
        keeper.close()
        keeper.call(2 * NANO)
        keeper.end()
        # Nine were used, five are included, and the wallet was charged four.
        assert (keeper.paid(), keeper.over_stripe().nano) == (4 * NANO, 0)
        keeper.now = NEXT - HOUR
        keeper.call(1 * NANO)
        keeper.end()
        assert (keeper.paid(), keeper.over_stripe().nano) == (4 * NANO, 1 * NANO)
        keeper.check()
