"""Four gateways in processes of their own against one wallet: it never goes below nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.gateway.test_concurrency import a_seed, nano, now_ms

if TYPE_CHECKING:
    from tests.billing.wallets.desk import Desk
    from tests.support.racers import Racers

pytestmark = pytest.mark.real_db

GATEWAYS, CALLS = 4, 200
COST_NANO, CHARGE_NANO = 7, 11
START_MS, LIFE_MS = 60, 5_000
ENDS_IN = timedelta(seconds=3.2)


@pytest.fixture(scope="module")
def racers(real_database: None) -> Iterator[Racers]:
    # Django's models are loaded after this file.
    from tests.support.racers import Racers

    with Racers(GATEWAYS) as found:
        yield found


class TestTwoHundredCallsAtOnce:
    def test_take_what_is_there_and_no_more(self, desk: Desk, racers: Racers) -> None:
        desk.card(markup_percent="50")
        wallet = desk.wallet()
        gift = desk.grant(wallet, "$" + nano(20), "promotional")
        paid = desk.grant(wallet, "$" + nano(30))
        race = {"do": "race", "secret": desk.account.secret, "amount": COST_NANO, "calls": CALLS // GATEWAYS}
        racers.begin({**race, "at_ms": now_ms() + START_MS})
        answers = racers.end()
        decisions = Counter(decision for answer in answers for decision in answer["decisions"])
        assert decisions == {"allow": 4, "budget_busy": CALLS - 4}
        tokens = [token for answer in answers for token in answer["authorizations"]]
        for token in tokens:
            body = {"authorization": token, "usage": {}, "cost_usd": nano(5)}
            assert desk.account.world.run(desk.account.send("/v1/settle", body))["state"] == "settled"
        # 7.5 a call is charged 8; eleven were held. What was held in excess is there again at once, and is used again.
        racers.begin({**race, "at_ms": now_ms() + START_MS})
        decisions = Counter(decision for answer in racers.end() for decision in answer["decisions"])
        assert decisions == {"allow": 1, "budget_busy": CALLS - 1}
        desk.burn()
        assert desk.left(gift, paid) == [0, 50 - 4 * 8]
        wallet.refresh_from_db()
        assert wallet.owed_nano == 0
        desk.check()


class TestLiveTraffic:
    """Credit in nano-USD: a present that ends meanwhile, and paid credit, burnt while calls go on."""

    GIFT, PAID, MORE = 2_500, 2_000, 1_500

    def test_never_takes_a_wallet_below_nothing(self, desk: Desk, racers: Racers) -> None:
        from billing.models import CreditGrant, WalletHold

        seed = a_seed()
        chance = random.Random(seed)
        desk.card(markup_percent="33.3333")
        wallet = desk.wallet()
        desk.now = datetime.now(UTC)
        gift = desk.grant(wallet, "$" + nano(self.GIFT), "promotional", ends_in=ENDS_IN)
        desk.grant(wallet, "$" + nano(self.PAID))
        until = now_ms() + LIFE_MS
        racers.begin({"do": "live", "secret": desk.account.secret, "seed": seed, "until_ms": until})
        topped_up = voided = False
        while now_ms() < until:
            desk.now = datetime.now(UTC)
            desk.burn()
            left = until - now_ms()
            if left < LIFE_MS / 2 and not topped_up:
                last = desk.grant(wallet, "$" + nano(self.MORE))
                topped_up = True
            if left < LIFE_MS / 8 and not voided and chance.random() < 0.5:
                desk.void(last)
                voided = True
        tallies = sum((Counter(answer["tallies"]) for answer in racers.end()), Counter[str]())
        told = f"seed {seed}: {dict(tallies)}"
        world = desk.account.world
        while desk.account.verify().totals.open_holds:
            world.sweep()
        desk.now = datetime.now(UTC)
        while desk.burn().entries:
            pass
        wallet.refresh_from_db()
        assert wallet.owed_nano == 0, told
        gift.refresh_from_db()
        assert gift.expires_at is not None
        late = WalletHold.objects.filter(wallet_id=wallet.pk, placed_at__gte=gift.expires_at)
        assert all(grant != str(gift.pk) for hold in late for grant, _ in hold.draws), told
        assert min(tallies["allow"], tallies["settled"], late.count()) > 0, told
        assert tallies["budget_busy"] or tallies["budget_exceeded"], told
        credit = sum(CreditGrant.objects.filter(wallet_id=wallet.pk).values_list("amount_nano", flat=True))
        taken = sum(
            hold.charged_nano + hold.presumed_nano for hold in WalletHold.objects.filter(wallet_id=wallet.pk)
        )
        assert 0 < taken <= credit, told
        desk.check()
        desk.later(minutes=61)
        desk.lapse()
        assert desk.left(gift) == [0]
        desk.check()
