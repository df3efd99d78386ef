"""Top-ups against the double of Stripe: credited once, whatever comes first, twice, late or never."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.billing.push.conftest import stripe_double as stripe_double
from tests.support.world import usd

if TYPE_CHECKING:
    from billing.models import TopUp
    from tests.billing.book import Book
    from tests.billing.push.till import Till
    from tests.doubles.stripe import StripeDouble

pytestmark = pytest.mark.real_db


class Shop:
    """A tenant that sells credit to one customer, linked to Stripe."""

    def __init__(self, till: Till) -> None:
        from billing.services import payments, wallets

        self.till, self.payments, self.wallets = till, payments, wallets
        till.link(subscription=False)
        self.tenant_id = till.tenant_id
        self.wallet = wallets.create_wallet(
            tenant_id=self.tenant_id, customer="acme", actor="test", now=till.now
        )

    def checkout(self, amount: str = "$20") -> TopUp:
        """Opens a page."""
        return self.payments.open_checkout(
            tenant_id=self.tenant_id,
            wallet_id=self.wallet.pk,
            amount_nano=usd(amount),
            success_url="https://shop.example.com/thanks",
            cancel_url="https://shop.example.com/again",
            actor="test",
            now=self.till.now,
        )

    def automatic(self, threshold: str = "$5", amount: str = "$10", most: str = "$30") -> None:
        """Lets it be topped up by itself."""
        self.wallets.set_automatic(
            tenant_id=self.tenant_id,
            wallet_id=self.wallet.pk,
            automatic=self.wallets.AutomaticTopUp(
                threshold_nano=usd(threshold), amount_nano=usd(amount), monthly_max_nano=usd(most)
            ),
            actor="test",
            now=self.till.now,
        )

    def save_card(self, card: str = "pm_card_visa") -> None:
        """The customer's card, without a payment."""
        client = self.till.double.client(self.till.key)
        client.v1.payment_methods.attach(card, {"customer": self.till.link_of().stripe_customer})

    def work(self) -> None:
        """What a worker does every few seconds."""
        self.payments.begin_automatic(now=self.till.now)
        self.payments.charge_due(now=self.till.now)

    def events(self, **how: Any) -> None:
        """Takes in what the double sends, which carries the real time, and handles it."""
        from billing.services import stripe_inbox

        for each in self.till.double.deliveries(**how):
            self.till.receive(each)
        while stripe_inbox.handle_batch(now=datetime.now(UTC)):
            pass

    def use(self, amount: str) -> None:
        """Takes credit off the wallet, as a call would."""
        from django.db import transaction

        from billing.models import PostingKind
        from billing.services.journal import lock_wallet, post, purse_of

        with transaction.atomic():
            wallet = lock_wallet(tenant_id=self.tenant_id, wallet_id=self.wallet.pk)
            purse = purse_of(wallet)
            purse.draw(usd(amount), placed_at=self.till.now, into="revenue")
            post(wallet, purse, kind=PostingKind.BURN, actor="test", now=self.till.now)

    @property
    def balance(self) -> int:
        """What is in the wallet."""
        from billing.services.journal import purse_of

        self.wallet.refresh_from_db()
        return purse_of(self.wallet).balance(self.till.now)

    def top_ups(self) -> list[str]:
        """The states of all top-ups, oldest first."""
        from billing.models import TopUp

        found = TopUp.objects.filter(wallet_id=self.wallet.pk).order_by("created_at", "pk")
        return [row.state for row in found]

    def paid_at_stripe(self) -> int:
        """What the double took from the customer, in nano-USD."""
        intents = self.till.double.objects("payment_intent", key=self.till.key)
        return sum(each["amount"] * 10**7 for each in intents if each["status"] == "succeeded")

    def alerts(self, kind: str) -> list[Any]:
        """What the tenant was told."""
        from alerts.models import Alert

        return list(Alert.objects.filter(tenant_id=self.tenant_id, kind=kind).order_by("raised_at", "pk"))


@pytest.fixture
def shop(book: Book, stripe_double: StripeDouble) -> Iterator[Shop]:
    # Django's applications are loaded after this file.
    from tests.billing.push.till import Till, forget_others

    forget_others()
    till = Till(book, stripe_double)
    till.open()
    yield Shop(till)
    forget_others()


class TestCheckout:
    def test_credits_what_was_paid_once_however_often_it_is_told(self, shop: Shop) -> None:
        top_up = shop.checkout()
        assert top_up.url.startswith("https://checkout.stripe.com/")
        shop.till.double.pay_checkout(top_up.checkout_id, card="pm_card_visa", key=shop.till.key)
        assert shop.balance == 0
        shop.events(order="reversed", duplicates=3)
        assert (shop.balance, shop.top_ups()) == (usd("$20"), ["paid"])
        shop.payments.refresh(tenant_id=shop.tenant_id, top_up_id=top_up.pk, now=shop.till.now)
        assert shop.balance == usd("$20") == shop.paid_at_stripe()

    def test_is_found_though_its_events_never_came(self, shop: Shop) -> None:
        top_up = shop.checkout()
        shop.till.double.pay_checkout(top_up.checkout_id, card="pm_card_visa", key=shop.till.key)
        assert shop.payments.look_after(now=shop.till.now) == 0
        shop.till.later(hours=26)
        assert shop.payments.look_after(now=shop.till.now) == 1
        assert (shop.balance, shop.top_ups()) == (usd("$20"), ["paid"])

    def test_ends_when_nobody_pays(self, shop: Shop) -> None:
        shop.checkout()
        shop.till.later(hours=25)
        shop.events()
        assert (shop.balance, shop.top_ups()) == (0, ["expired"])

    @pytest.mark.parametrize("amount", ["$0.49", "$1.005", "$0"])
    def test_refuses_amounts_that_nobody_can_pay(self, shop: Shop, amount: str) -> None:
        with pytest.raises(shop.wallets.InvalidWallet, match="whole cents"):
            shop.checkout(amount)

    def test_pays_back_what_is_left_of_a_grant_that_is_voided(self, shop: Shop) -> None:
        from billing.models import CreditGrant

        top_up = shop.checkout()
        shop.till.double.pay_checkout(top_up.checkout_id, card="pm_card_visa", key=shop.till.key)
        shop.events()
        shop.use("$7.005")
        grant = CreditGrant.objects.get(wallet_id=shop.wallet.pk)
        shop.wallets.void_grant(
            tenant_id=shop.tenant_id,
            wallet_id=shop.wallet.pk,
            grant_id=grant.pk,
            reason="they left",
            actor="test",
            now=shop.till.now,
            refund=True,
        )
        assert shop.payments.refund_due(now=shop.till.now) == 0
        shop.till.later(hours=2)
        shop.wallets.lapse(tenant_id=shop.tenant_id, wallet_id=shop.wallet.pk, now=shop.till.now)
        assert [shop.payments.refund_due(now=shop.till.now) for _ in range(2)] == [1, 0]
        (refund,) = shop.till.double.objects("refund", key=shop.till.key)
        assert refund["amount"] == 1299
        from tests.billing.wallets.desk import journal_of

        assert journal_of(shop.wallet) == {
            "cash": -usd("$7.01"),
            "revenue": usd("$7.005"),
            "refunds": usd("$0.005"),
        }


class TestAutomaticTopUps:
    def test_charge_the_saved_card_when_little_is_left_up_to_the_months_ceiling(self, shop: Shop) -> None:
        shop.save_card()
        shop.automatic()
        shop.work()
        assert (shop.balance, shop.top_ups()) == (usd("$10"), ["paid"])
        shop.work()
        shop.use("$5")
        shop.work()
        # Five dollars are not below five dollars.
        assert shop.balance == usd("$5")
        shop.use("$0.01")
        shop.work()
        shop.use("$10")
        shop.work()
        assert (shop.balance, shop.top_ups()) == (usd("$14.99"), ["paid"] * 3)
        shop.use("$10")
        shop.work()
        shop.work()
        assert (shop.balance, shop.paid_at_stripe()) == (usd("$4.99"), usd("$30"))
        (told,) = shop.alerts("wallet_low")
        assert "ceiling" in told.details["reason"]

    def test_charge_once_when_the_answer_is_lost(self, shop: Shop) -> None:
        shop.save_card()
        shop.automatic()
        shop.till.double.fault("drop_after", path="payment_intents", times=3)
        shop.work()
        assert (shop.balance, shop.top_ups()) == (0, ["pending"])
        assert shop.paid_at_stripe() == usd("$10")
        shop.work()
        shop.till.double.heal()
        shop.till.later(minutes=3)
        shop.work()
        assert (shop.balance, shop.top_ups()) == (usd("$10"), ["paid"])
        assert shop.paid_at_stripe() == usd("$10")

    def test_are_credited_by_the_event_when_it_comes_before_the_answer(self, shop: Shop) -> None:
        shop.save_card()
        shop.automatic()
        shop.till.double.fault("drop_after", path="payment_intents", times=3)
        shop.work()
        shop.till.double.heal()
        shop.events(duplicates=2)
        assert (shop.balance, shop.top_ups()) == (usd("$10"), ["paid"])
        shop.till.later(minutes=3)
        shop.work()
        assert (shop.balance, shop.paid_at_stripe()) == (usd("$10"), usd("$10"))

    def test_are_not_repeated_once_the_key_may_be_forgotten(self, shop: Shop) -> None:
        shop.save_card()
        shop.automatic()
        shop.till.double.fault("drop_after", path="payment_intents", times=3)
        shop.work()
        shop.till.double.heal()
        shop.till.later(hours=30)
        shop.work()
        assert (shop.balance, shop.paid_at_stripe()) == (usd("$10"), usd("$10"))

    def test_stop_after_cards_failed_and_tell(self, shop: Shop) -> None:
        shop.save_card("pm_card_chargeCustomerFail")
        shop.automatic()
        for _ in range(6):
            shop.work()
            shop.till.later(hours=70)
        assert (shop.balance, shop.top_ups()) == (0, ["failed"] * 3)
        told = shop.alerts("top_up_failed")
        assert [each.details["tried_again"] for each in told] == ["yes", "yes", "no"]
        assert "declined" in told[0].details["reason"]
        # Somebody looks at it, and sets the terms again.
        shop.automatic()
        shop.work()
        assert shop.top_ups() == ["failed"] * 4

    def test_say_when_there_is_no_card(self, shop: Shop) -> None:
        shop.automatic()
        shop.work()
        (told,) = shop.alerts("top_up_failed")
        assert "no saved payment method" in told.details["reason"]

    def test_use_the_card_that_was_kept_at_checkout(self, shop: Shop) -> None:
        top_up = shop.checkout()
        shop.till.double.pay_checkout(top_up.checkout_id, card="pm_card_visa", key=shop.till.key)
        shop.events()
        shop.automatic(threshold="$25")
        shop.till.later(minutes=1)
        shop.work()
        assert shop.balance == usd("$30") == shop.paid_at_stripe()
