"""Subscriptions that end, and others that take over: each use is on one invoice, whatever order Stripe tells it in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.billing.push.till import DAY, HOUR, NEXT, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


def cancel(till: Till, *, invoice: bool) -> str:
    """The tenant ends its customer's subscription at Stripe, with a last invoice or without one."""
    held = till.link_of().subscription
    till.double.client(till.key).v1.subscriptions.cancel(held, {"invoice_now": invoice})
    return held


def subscribe(till: Till) -> str:
    """The tenant starts another one there, which renews with the months."""
    made = till.double.client(till.key).v1.subscriptions.create(
        {
            "customer": till.link_of().stripe_customer,
            "items": [{"price": till.account().price_id}],
            "billing_cycle_anchor": int(NEXT.timestamp()),
            "proration_behavior": "none",
        }
    )
    return made.id


def invoiced(till: Till) -> int:
    """What all final invoices have counted, in micro-USD."""
    found = [
        each
        for each in till.double.objects("invoice", key=till.key)
        if each["customer"] == till.link_of().stripe_customer and each["status"] != "draft"
    ]
    return sum(line["quantity"] or 0 for each in found for line in each["lines"]["data"])


class TestAnEndedSubscription:
    def test_has_what_its_last_invoice_counted_billed_once(self, till: Till) -> None:
        till.link()
        till.use(70_000, NOON)
        till.live(NOON + 2 * HOUR)
        cancel(till, invoice=True)
        till.use(500, NOON + 3 * HOUR)
        till.live(NOON + 6 * HOUR)
        assert (till.link_of().subscription_status, invoiced(till)) == ("canceled", 70_000)
        # Days after the month nobody waits for an invoice of it any more.
        till.to(NEXT + 6 * DAY)
        till.reconcile()
        till.link()
        till.live(NEXT + 6 * DAY + 3 * HOUR)
        assert till.counted() == 70_500
        assert all(row.agrees for row in till.reconcile())

    def test_has_what_was_told_too_late_for_its_last_invoice_carried(self, till: Till) -> None:
        till.link()
        till.use(70_000, NOON)
        till.live(NOON + 2 * HOUR)
        till.use(900, NOON + 2 * HOUR)
        till.to(NOON + 2 * HOUR + HOUR / 2)
        cancel(till, invoice=True)
        till.live(NOON + 5 * HOUR)
        subscribe(till)
        till.live(NOON + 8 * HOUR)
        assert till.link_of().subscription_status == "active"
        till.to(NEXT + 3 * HOUR)
        till.work()
        till.events()
        # What came after the last invoice was counted, and is on no invoice but the one that it was carried to.
        assert (invoiced(till), till.counted()) == (70_900, 71_800)
        assert all(row.agrees for row in till.reconcile())

    @pytest.mark.parametrize("order", ["given", "reversed"])
    def test_is_followed_by_the_next_one_whatever_order_events_come_in(self, till: Till, order: str) -> None:
        till.link()
        till.use(70_000, NOON)
        till.live(NOON + 2 * HOUR)
        cancel(till, invoice=True)
        made = subscribe(till)
        till.events(order=order, duplicates=2)
        link = till.link_of()
        assert (link.subscription, link.subscription_status) == (made, "active")
        till.use(500, NOON + 3 * HOUR)
        till.live(NOON + 5 * HOUR)
        till.to(NEXT + 3 * HOUR)
        till.work()
        till.events()
        assert invoiced(till) == till.counted() == 70_500
