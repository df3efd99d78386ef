"""Plans are bought, changed, left and not paid for, as Stripe's client and events tell it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from billing.services import plan_changes
from noburn.kit.problems import Invalid
from tests.billing.plans.seller import PAGES, PLATFORM_KEY, START
from tests.doubles.stripe import ControlError

if TYPE_CHECKING:
    from tests.billing.plans.seller import Seller

pytestmark = pytest.mark.real_db

HOUR = timedelta(hours=1)


class TestBuy:
    def test_begins_with_a_trial_and_lifts_the_limit(self, seller: Seller) -> None:
        seller.use(60_000)
        assert seller.count().refused_until is not None
        account = seller.buy("team")
        assert (account.offer, account.status, account.refused_until) == ("team_2026_12", "trialing", None)
        assert account.trial_ends_at == START + timedelta(days=14)
        assert seller.invoices() == [0]
        seller.later(days=14, hours=2)
        seller.events()
        assert seller.account().status == "active"
        assert seller.invoices() == [0, 4_900]

    def test_has_one_trial(self, seller: Seller) -> None:
        seller.buy("team")
        seller.client.v1.subscriptions.cancel(seller.account().subscription)
        seller.events()
        assert (seller.account().status, seller.account().offer) == ("free", "free_2026_12")
        assert seller.buy("team").status == "active"
        assert seller.invoices() == [0, 4_900]

    def test_changes_nothing_when_the_card_does_not_pay(self, seller: Seller) -> None:
        with pytest.raises(ControlError):
            seller.buy(card="pm_card_chargeDeclinedInsufficientFunds")
        seller.events()
        assert seller.account().status == "free"

    def test_repeats_a_request_as_the_same_session(self, seller: Seller) -> None:
        first, second = (
            plan_changes.checkout(tenant_id=seller.tenant_id, plan="team", key="one", now=seller.now, **PAGES)
            for _ in range(2)
        )
        assert first == second

    def test_is_refused_while_there_is_a_paid_plan(self, seller: Seller) -> None:
        seller.buy()
        with pytest.raises(Invalid, match="already"):
            seller.buy()

    def test_hears_events_twice_and_out_of_order(self, seller: Seller) -> None:
        session, _ = plan_changes.checkout(
            tenant_id=seller.tenant_id, plan="team", key="one", now=seller.now, **PAGES
        )
        seller.double.pay_checkout(session, key=PLATFORM_KEY)
        seller.events(order="reversed", duplicates=2)
        assert (seller.account().offer, seller.account().status) == ("team_2026_12", "trialing")
        assert seller.events() == 0


class TestChange:
    def test_costs_what_the_preview_said(self, seller: Seller) -> None:
        seller.buy("team")
        seller.later(days=14, hours=2)
        seller.events()
        seller.later(days=10)
        told = plan_changes.preview(tenant_id=seller.tenant_id, plan="scale", now=seller.now)
        account = seller.change("scale")
        assert account.offer == "scale_2026_12"
        assert seller.invoices()[-1] == told.due_cents > 0
        assert sum(amount for _, amount in told.lines) == told.due_cents

    def test_to_the_free_plan_waits_for_the_end_of_what_was_paid(self, seller: Seller) -> None:
        seller.buy("team")
        account = seller.change("free")
        assert (account.status, account.cancel_at) == ("trialing", account.period_ends_at)
        seller.later(days=14, hours=2)
        seller.events()
        assert (seller.account().status, seller.account().cancel_at) == ("free", None)

    def test_wants_a_paid_plan(self, seller: Seller) -> None:
        with pytest.raises(plan_changes.NoSubscription):
            seller.change("scale")


class TestDunning:
    def test_tells_the_tenant_and_ends_with_the_free_plan(self, seller: Seller) -> None:
        seller.buy("team", card="pm_card_chargeCustomerFail")
        assert seller.account().status == "trialing"
        seller.later(days=14, hours=2)
        seller.events()
        assert seller.account().status == "past_due"
        assert len(seller.alerts("plan_payment")) == 1
        # While Stripe tries again nothing is taken away.
        seller.use(100_000)
        assert seller.count().refused_until is None
        seller.later(days=15, hours=1)
        seller.events()
        assert seller.account().status == "free"

    def test_is_over_once_it_is_paid(self, seller: Seller) -> None:
        seller.buy("team", card="pm_card_chargeCustomerFail")
        seller.later(days=14, hours=2)
        seller.events()
        unpaid = seller.double.objects("invoice", key=PLATFORM_KEY)[-1]
        seller.double.pay_invoice(unpaid["id"], key=PLATFORM_KEY)
        seller.events()
        assert seller.account().status == "active"


class TestOverage:
    def test_is_invoiced_to_the_request(self, seller: Seller) -> None:
        seller.buy("team")
        seller.later(days=14, hours=2)
        seller.events()
        began = seller.account().period_starts_at
        assert began is not None
        for day in range(1, 16):
            seller.use(100_003, at=began + timedelta(days=day))
        seller.later(days=20)
        assert seller.count().counted == 1_500_045
        assert sum(seller.report()) == 1_500_045
        told = seller.report()
        # What comes late, and what is taken back, is told as a difference of its hour.
        seller.use(7, at=began + timedelta(days=2))
        seller.use(-1_000, at=began + timedelta(days=3))
        seller.later(hours=1)
        assert sum(seller.report()) == 1_499_052
        assert len(seller.report()) == len(told) + 2
        seller.later(days=12)
        assert seller.invoices()[-1] == 4_900 + 2_495

    @pytest.mark.parametrize(
        "kind", ["error_after", "drop_after", "error_before", "drop_before", "rate_limit"]
    )
    def test_is_told_once_whatever_goes_wrong(self, seller: Seller, kind: str) -> None:
        seller.buy("team")
        seller.use(1_234, at=seller.now + HOUR)
        seller.later(hours=3)
        seller.double.fault(kind, path="meter_events", times=2)
        for _ in range(4):
            seller.report()
            seller.later(minutes=20)
        assert self._counted(seller) == 1_234

    def test_is_looked_up_after_an_outage_of_thirty_hours(self, seller: Seller) -> None:
        seller.buy("team")
        seller.use(1_234, at=seller.now + HOUR)
        seller.later(hours=3)
        # It arrived; nobody heard.
        seller.double.fault("drop_after", path="meter_events")
        seller.double.fault("dark", hours=30, skip=0)
        seller.report()
        for _ in range(40):
            seller.later(hours=1)
            seller.report()
        assert self._counted(seller) == 1_234
        assert seller.report() == [1_234]

    def test_is_looked_up_only_when_what_arrived_last_is_counted(self, seller: Seller) -> None:
        seller.buy("team")
        seller.use(1_234, at=seller.now + HOUR)
        seller.later(hours=3)
        seller.double.settings(summary_lag_seconds=1_800)
        seller.double.fault("dark", hours=22)
        seller.report()
        seller.later(hours=22, minutes=50)
        # It arrives with the last attempt that is safe, and nobody hears of that.
        seller.double.fault("drop_after", path="meter_events")
        seller.report()
        for _ in range(12):
            seller.later(minutes=10)
            seller.report()
        assert self._counted(seller) == 1_234
        assert seller.report() == [1_234]

    def _counted(self, seller: Seller) -> int:
        found = seller.double.objects("meter_event", key=PLATFORM_KEY)
        wanted = seller.account().stripe_customer
        return sum(each["value"] for each in found if each["customer"] == wanted)
