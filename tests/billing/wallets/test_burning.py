"""What calls used is taken from credit: once, in the burn order, at the exact charge; the counter follows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from billing.models import JournalLine, JournalPosting, Wallet, WalletEntry, WalletHold
from tests.billing.wallets.desk import Desk
from tests.support.world import usd

pytestmark = pytest.mark.real_db


class TestBurning:
    def test_takes_the_exact_charge_and_brings_the_counter_back_to_the_balance(self, desk: Desk) -> None:
        desk.card(markup_percent="100")
        wallet = desk.wallet()
        paid = desk.grant(wallet, "$1")
        desk.account.settle(desk.account.place("$0.30"), "$0.25")
        assert desk.burn().entries == 1
        assert desk.left(paid) == [usd("$0.50")]
        assert desk.journal(wallet) == {
            "cash": -usd("$1"),
            "paid_credit": usd("$0.50"),
            "revenue": usd("$0.50"),
        }
        assert desk.account.place("$0.26")["decision"] == "deny"
        assert desk.account.place("$0.25")["decision"] == "allow"
        desk.check()

    def test_returns_what_was_posted_beyond_the_charge(self, desk: Desk) -> None:
        # The bound prices every token of input as one of the dearest kind; cached ones are charged less.
        desk.card(
            rules=[
                {
                    "rates": [
                        {"unit": "input", "price_usd": "1", "per": 1000},
                        {"unit": "cache_read", "price_usd": "0.1", "per": 1000},
                        {"unit": "output", "price_usd": "2", "per": 1000},
                    ]
                }
            ]
        )
        wallet = desk.wallet()
        paid = desk.grant(wallet, "$10")
        placed = desk.account.place(model="gpt-4o-mini", input_tokens=2000, max_output_tokens=100)
        usage = {"input_tokens": 2000, "cache_read_tokens": 1000, "output_tokens": 50}
        desk.account.settle(placed, usage=usage)
        (hold,) = desk.account.ledger()
        assert hold["deltas"] == [usd("$2.10")]
        desk.burn()
        assert desk.left(paid) == [usd("$8.80")]
        assert desk.account.place("$0", customer="acme")["budgets"][0]["limit_usd"] == "8.8"
        desk.check()

    @pytest.mark.parametrize(("price", "decision"), [("25", "allow"), ("900000", "deny")])
    def test_knows_dear_requests(self, price: str, decision: str, desk: Desk) -> None:
        desk.card(
            rules=[{"rates": [{"unit": "requests", "price_usd": price}]}],
            tiers=[{"above_usd": "0", "percent": "1000"}],
        )
        desk.grant(desk.wallet(), "$250")
        placed = desk.account.place("$0.01")
        assert placed["decision"] == decision
        if decision == "allow":
            assert placed["budgets"][0]["remaining_usd"] == "0"

    def test_follows_the_burn_order(self, desk: Desk) -> None:
        wallet = desk.wallet()
        paid = desk.grant(wallet, "$1")
        gift = desk.grant(wallet, "$1", "promotional")
        soon = desk.grant(wallet, "$1", "promotional", ends_in=timedelta(days=1))
        first = desk.grant(wallet, "$1", priority=1)
        desk.account.settle(desk.account.place("$2.50"), "$2.50")
        desk.burn()
        assert desk.left(first, soon, gift, paid) == [0, 0, usd("$0.50"), usd("$1")]
        desk.check()

    def test_burns_an_entry_once_whoever_is_killed_or_reads_the_ledger_anew(self, desk: Desk) -> None:
        wallet = desk.wallet()
        paid = desk.grant(wallet, "$1")
        for _ in range(3):
            desk.account.settle(desk.account.place("$0.10"), "$0.10")
        boom = RuntimeError("killed")

        def killed(*_: object) -> list[int]:
            raise boom

        from billing.services.burning import burn

        assert burn(now=desk.now, charges=killed, tenant_id=desk.tenant_id).failed == 1
        assert (WalletEntry.objects.filter(wallet_id=wallet.pk).count(), desk.left(paid)) == (3, [usd("$1")])
        assert desk.burn().entries == 3
        desk.account.world.sql("UPDATE billing_walletcursor SET position = -9223372036854775808")
        assert (desk.burn().entries, desk.burn().entries) == (0, 0)
        assert desk.left(paid) == [usd("$0.70")]
        desk.check()

    def test_puts_presumed_spending_aside_until_somebody_knows(self, desk: Desk) -> None:
        wallet = desk.wallet()
        paid = desk.grant(wallet, "$1")
        lost, unseen = desk.account.place("$0.40"), desk.account.place("$0.20")
        desk.account.expire(lost)
        desk.account.world.sweep()
        desk.account.settle(unseen)
        desk.burn()
        assert desk.journal(wallet) == {
            "cash": -usd("$1"),
            "paid_credit": usd("$0.40"),
            "presumed": usd("$0.60"),
        }
        assert desk.account.place("$0.41")["decision"] == "deny"
        desk.check()
        desk.account.settle(lost, "$0.10")
        desk.account.void(unseen)
        desk.burn()
        assert desk.journal(wallet) == {
            "cash": -usd("$1"),
            "paid_credit": usd("$0.90"),
            "revenue": usd("$0.10"),
        }
        assert desk.left(paid) == [usd("$0.90")]
        desk.check()

    def test_lets_what_is_beyond_the_credit_be_owed_and_paid_by_the_next(self, desk: Desk) -> None:
        wallet = desk.wallet()
        desk.grant(wallet, "$1")
        # A settlement above its hold is recorded whole, whatever is in the wallet.
        desk.account.settle(desk.account.place("$1"), "$1.50")
        desk.burn()
        wallet.refresh_from_db()
        assert wallet.owed_nano == usd("$0.50")
        assert desk.account.place("$0.01")["decision"] == "deny"
        desk.check()
        more = desk.grant(wallet, "$2")
        assert desk.left(more) == [usd("$1.50")]
        assert desk.account.place("$1.51")["decision"] == "deny"
        assert desk.account.place("$1.50")["decision"] == "allow"
        desk.check()


class TestCreditThatEnds:
    def test_pays_for_calls_of_before_and_for_none_after(self, desk: Desk) -> None:
        wallet = desk.wallet()
        ending = desk.grant(wallet, "$1", "promotional", ends_in=timedelta(minutes=30))
        lasting = desk.grant(wallet, "$1")
        placed = desk.account.place("$0.40")
        desk.later(minutes=31)
        # The escrow's clocks are real: its end is moved to where billing's clock says that it was.
        self.end(desk, ending)
        assert desk.account.place("$1.01")["decision"] == "deny"
        after = desk.account.place("$0.50")
        assert after["decision"] == "allow"
        desk.account.settle(placed, "$0.40")
        desk.account.settle(after, "$0.50")
        desk.burn()
        assert desk.left(ending, lasting) == [usd("$0.60"), usd("$0.50")]
        assert desk.lapse() == 0
        desk.later(minutes=61)
        assert desk.lapse() == 1
        assert desk.left(ending) == [0]
        assert desk.journal(wallet)["expired"] == usd("$0.60")
        assert desk.account.place("$0.51")["decision"] == "deny"
        desk.check()

    def end(self, desk: Desk, grant: object) -> None:
        """The instant was just now, by every clock."""
        world = desk.account.world
        at = world.sql("SELECT clock_timestamp()")[0][0]
        world.sql("UPDATE billing_creditgrant SET expires_at = %s WHERE id = %s", at, grant.pk)  # type: ignore[attr-defined]
        world.sql("UPDATE wallet_limits SET falls_at = ARRAY[%s] WHERE tenant_id = %s", at, desk.tenant_id)
        for (wallet,) in world.sql("SELECT id FROM billing_wallet WHERE tenant_id = %s", desk.tenant_id):
            name = desk.account.keys().counter(wallet)
            if world.redis.hget(name, "end"):
                world.redis.hset(name, "end", world.redis_ms())
        desk.now = at

    def test_is_voided_for_new_calls_and_kept_for_those_in_flight(self, desk: Desk) -> None:
        wallet = desk.wallet()
        gift, paid = desk.grant(wallet, "$1", "promotional"), desk.grant(wallet, "$0.10")
        placed = desk.account.place("$0.70")
        desk.void(gift)
        desk.void(gift)
        assert desk.account.place("$0.20")["decision"] == "deny"
        desk.account.settle(placed, "$0.70")
        desk.burn()
        assert desk.left(gift, paid) == [usd("$0.40"), 0]
        desk.later(minutes=61)
        desk.lapse()
        assert desk.journal(wallet) == {
            "cash": -usd("$0.10"),
            "promotion": -usd("$0.60"),
            "revenue": usd("$0.70"),
        }
        desk.check()

    def test_is_owed_back_when_it_was_paid_for(self, desk: Desk) -> None:
        wallet = desk.wallet()
        desk.void(desk.grant(wallet, "$1"))
        desk.later(minutes=61)
        desk.lapse()
        assert desk.journal(wallet) == {"cash": -usd("$1"), "refunds": usd("$1")}
        desk.check()


class TestTheJournal:
    def test_refuses_a_posting_that_does_not_add_up(self, desk: Desk) -> None:
        wallet = desk.wallet()
        with pytest.raises(IntegrityError, match="add up to 5"), transaction.atomic():  # noqa: PT012 - it is the commit
            posting = JournalPosting.objects.create(
                tenant_id=desk.tenant_id, wallet_id=wallet.pk, kind="grant", actor="x", created_at=desk.now
            )
            JournalLine.objects.create(
                tenant_id=desk.tenant_id, posting=posting, wallet=wallet, account="cash", amount_nano=5
            )

    @pytest.mark.parametrize("table", ["billing_journalline", "billing_journalposting"])
    def test_is_never_edited(self, desk: Desk, table: str) -> None:
        desk.grant(desk.wallet(), "$1")
        for change in (f"UPDATE {table} SET tenant_id = tenant_id", f"DELETE FROM {table}"):
            # Not even by the owner of the schema.
            with pytest.raises(Exception, match="never edited"):
                desk.account.world.sql(change)
            with pytest.raises(Exception, match="permission denied"), connection.cursor() as cursor:
                cursor.execute(change)

    def test_credits_a_payment_once(self, desk: Desk) -> None:
        wallet = desk.wallet()
        one = desk.grant(wallet, "$5", payment_id="pi_1")
        assert desk.grant(wallet, "$5", payment_id="pi_1").pk == one.pk
        assert desk.journal(wallet) == {"cash": -usd("$5"), "paid_credit": usd("$5")}
        desk.check()

    def test_tells_when_little_is_left_and_once_until_there_is_more(self, desk: Desk) -> None:
        from alerts.models import Alert
        from billing.services.wallets import set_low

        wallet = desk.wallet()
        set_low(
            tenant_id=desk.tenant_id, wallet_id=wallet.pk, low_nano=usd("$0.50"), actor="test", now=desk.now
        )
        desk.grant(wallet, "$1")

        def use() -> int:
            desk.account.settle(desk.account.place("$0.30"), "$0.30")
            desk.burn()
            return Alert.objects.filter(tenant_id=desk.tenant_id, kind="wallet_low").count()

        assert [use(), use(), use()] == [0, 1, 1]
        desk.grant(wallet, "$1")
        desk.later(seconds=1)
        assert [use(), use(), use()] == [1, 2, 2]


def test_holds_remember_what_they_took(desk: Desk) -> None:
    wallet = desk.wallet()
    paid = desk.grant(wallet, "$1")
    desk.account.settle(desk.account.place("$0.40"), "$0.30")
    desk.burn()
    (hold,) = WalletHold.objects.filter(wallet_id=wallet.pk)
    assert hold.draws == [[str(paid.pk), usd("$0.30")]]
    assert (hold.posted_nano, hold.charged_nano) == (usd("$0.30"), usd("$0.30"))
    assert Wallet.objects.get(pk=wallet.pk).burnt_nano == usd("$0.30")
