"""A customer with a wallet and a subscription is billed once: over Stripe what its wallet does not pay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.billing.push.conftest import stripe_double as stripe_double
from tests.billing.push.conftest import till as till
from tests.billing.push.till import DAY, HOUR, NEXT, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till
    from tests.billing.wallets.keeper import Keeper

pytestmark = pytest.mark.real_db

NANO = 10**9
MICRO = 10**6


@pytest.fixture
def keeper(till: Till) -> Keeper:
    """A linked customer, with a card that includes five dollars."""
    from tests.billing.wallets.keeper import Keeper

    made = Keeper(till.book, customer="acme")
    made.card({"markup_percent": "0", "included_usd": "5"})
    till.link("acme")
    return made


def live(till: Till, keeper: Keeper, hours: int) -> None:
    """Workers do all that they do, hour by hour."""
    for _ in range(hours):
        till.later(hours=1)
        keeper.work(till.now)
        till.work()


class TestACustomerThatHasBoth:
    def test_is_told_to_stripe_what_its_wallet_does_not_pay(self, till: Till, keeper: Keeper) -> None:
        till.to(START + 12 * HOUR)
        keeper.now = till.now
        keeper.call(6 * NANO)
        live(till, keeper, 2)
        assert till.counted() == 1 * MICRO
        keeper.open(10 * NANO)
        hold = keeper.call(3 * NANO)
        live(till, keeper, 2)
        # All of it is charged to the wallet: nothing more is told.
        assert (till.counted(), keeper.paid()) == (1 * MICRO, 3 * NANO)
        (row,) = till.reconcile()
        assert row.agrees
        assert (row.owed_nano, row.told_micro) == (4 * NANO, 1 * MICRO)
        assert row.differences == [{"kind": "wallet", "micro": 3 * MICRO}]
        keeper.close()
        keeper.call(2 * NANO)
        live(till, keeper, 2)
        assert (till.counted(), keeper.paid()) == (3 * MICRO, 3 * NANO)
        # A call of the wallet's costs less after all: the wallet gets it back, and Stripe hears of nothing.
        till.book.rerate(hold, -1 * NANO)
        live(till, keeper, 2)
        assert (till.counted(), keeper.paid()) == (3 * MICRO, 2 * NANO)
        assert keeper.charge().total_nano == 5 * NANO
        keeper.check()

    def test_owes_nothing_over_stripe_where_the_wallet_was_charged_more_than_the_card_says(
        self, till: Till, keeper: Keeper
    ) -> None:
        till.to(NEXT - 2 * HOUR)
        keeper.now = till.now
        keeper.open(10 * NANO)
        keeper.call(7 * NANO)
        keeper.close()
        keeper.call(1 * NANO)
        live(till, keeper, 5)
        # Eight were used and five are included: the wallet, charged seven, pays the three, and Stripe none.
        assert (keeper.paid(), till.counted()) == (3 * NANO, 0)
        assert keeper.charge(final=True).total_nano == 3 * NANO
        assert all(row.agrees for row in till.reconcile())
        keeper.check()

    def test_is_trued_up_by_its_subscriptions_periods_once_it_has_one(self, till: Till) -> None:
        from tests.billing.wallets.keeper import Keeper

        other = Keeper(till.book, now=START + 2 * DAY, customer="globex")
        other.card({"markup_percent": "0", "included_usd": "5"})
        till.to(other.now)
        other.open(20 * NANO)
        other.call(7 * NANO)
        live(till, other, 2)
        assert other.paid() == 2 * NANO
        # A subscription that begins now divides the month: each of its parts includes five dollars.
        till.link("globex")
        other.call(7 * NANO)
        live(till, other, 2)
        begins = [period.starts_at for period in till.periods("globex")]
        assert len(begins) == 2
        assert other.paid() == 4 * NANO
        other.check()
