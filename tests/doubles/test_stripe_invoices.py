"""Subscriptions and invoices of the Stripe double: what is billed, when, and what comes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from tests.doubles.stripe.shop import START, Shop

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class TestMeteredInvoices:
    def test_are_drafts_for_an_hour_and_then_final(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        shop.use(customer, 12_345_678)
        shop.double.move(FEBRUARY)
        assert [each["status"] for each in shop.invoices(customer)] == ["paid", "draft"]
        # What is reported late for the period still counts while it is a draft.
        shop.use(customer, 1_000_000, at=FEBRUARY - HOUR)
        shop.double.advance(hours=1)
        invoice = shop.invoices(customer)[-1]
        assert (invoice["status"], invoice["total"], invoice["amount_paid"]) == ("paid", 1335, 1335)
        assert invoice["hosted_invoice_url"]
        (line,) = invoice["lines"]["data"]
        assert (line["quantity"], line["amount"]) == (13_345_678, 1335)
        assert line["pricing"]["unit_amount_decimal"] == "0.0001"

    def test_never_change_once_final(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        shop.use(customer, 12_345_678)
        shop.double.move(FEBRUARY + HOUR)
        shop.use(customer, 1_000_000, at=FEBRUARY - HOUR)
        shop.double.move(datetime(2026, 3, 1, 2, tzinfo=UTC))
        assert [each["total"] for each in shop.invoices(customer)] == [0, 1235, 0]
        assert shop.used(customer, START, FEBRUARY) == 13_345_678

    def test_bill_less_than_nothing_as_nothing(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        shop.use(customer, -5_000_000)
        shop.double.move(FEBRUARY + HOUR)
        assert shop.invoices(customer)[-1]["total"] == 0

    def test_carry_what_is_too_little_to_collect(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        shop.use(customer, 300_000)
        shop.double.move(FEBRUARY + HOUR)
        invoice = shop.invoices(customer)[-1]
        assert (invoice["total"], invoice["amount_due"], invoice["ending_balance"]) == (30, 0, 30)
        shop.use(customer, 300_000)
        shop.double.move(datetime(2026, 3, 1, 2, tzinfo=UTC))
        invoice = shop.invoices(customer)[-1]
        assert (invoice["total"], invoice["amount_due"], invoice["amount_paid"]) == (30, 60, 60)

    def test_are_foretold(self, shop: Shop) -> None:
        customer = shop.customer().id
        made = shop.subscribe(customer)
        shop.use(customer, 12_345_678)
        shop.double.advance(minutes=1)
        told = shop.v1.invoices.create_preview({"subscription": made.id})
        assert (told.total, told.status) == (1235, "draft")
        assert [each["total"] for each in shop.invoices(customer)] == [0]

    def test_are_reduced_by_credit_grants_when_final(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        grant: Any = {
            "customer": customer,
            "name": "prepaid",
            "category": "paid",
            "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": 1000}},
            "applicability_config": {"scope": {"price_type": "metered"}},
        }
        shop.v1.billing.credit_grants.create(grant)
        shop.use(customer, 12_345_678)
        shop.double.move(FEBRUARY + HOUR)
        invoice = shop.invoices(customer)[-1]
        assert (invoice["subtotal"], invoice["total"], invoice["amount_paid"]) == (1235, 235, 235)


class TestDunning:
    def test_tries_again_and_then_cancels(self, shop: Shop) -> None:
        customer = shop.customer(card="pm_card_chargeCustomerFail").id
        made = shop.subscribe(customer)
        shop.use(customer, 12_345_678)
        shop.double.move(FEBRUARY + HOUR)
        assert shop.v1.subscriptions.retrieve(made.id).status == "past_due"
        assert shop.v1.customers.retrieve(customer).delinquent
        shop.double.advance(days=3)
        assert shop.invoices(customer)[-1]["attempt_count"] == 2
        shop.double.advance(days=12)
        assert shop.invoices(customer)[-1]["attempt_count"] == 4
        assert shop.v1.subscriptions.retrieve(made.id).status == "canceled"

    def test_ends_with_a_good_card(self, shop: Shop) -> None:
        customer = shop.customer(card="pm_card_chargeCustomerFail").id
        made = shop.subscribe(customer)
        shop.use(customer, 12_345_678)
        shop.double.move(FEBRUARY + HOUR)
        shop.double.pay_invoice(shop.invoices(customer)[-1]["id"])
        assert shop.v1.subscriptions.retrieve(made.id).status == "active"
        assert not shop.v1.customers.retrieve(customer).delinquent

    def test_of_the_first_invoice_leaves_it_incomplete_for_a_day(self, shop: Shop) -> None:
        customer = shop.customer(card="pm_card_chargeCustomerFail").id
        made = shop.subscribe(customer, shop.flat(2000).id)
        assert made.status == "incomplete"
        shop.double.advance(hours=23)
        assert shop.v1.subscriptions.retrieve(made.id).status == "incomplete_expired"


class TestChanges:
    def test_are_prorated_as_foretold(self, shop: Shop) -> None:
        customer = shop.customer().id
        small, large = shop.flat(3100), shop.flat(6200)
        made = shop.subscribe(customer, small.id)
        shop.double.move(datetime(2026, 1, 11, tzinfo=UTC))
        items: Any = [{"id": made["items"].data[0].id, "price": large.id}]
        how = "always_invoice"
        told = shop.v1.invoices.create_preview(
            {"subscription": made.id, "subscription_details": {"items": items, "proration_behavior": how}}
        )
        assert [each.amount for each in told.lines.data] == [-2100, 4200]
        shop.v1.subscriptions.update(made.id, {"items": items, "proration_behavior": how})
        assert [each["total"] for each in shop.invoices(customer)] == [3100, 2100]
        shop.double.move(FEBRUARY + HOUR)
        assert shop.invoices(customer)[-1]["total"] == 6200

    def test_wait_for_the_next_invoice_otherwise(self, shop: Shop) -> None:
        customer = shop.customer().id
        made = shop.subscribe(customer, shop.flat(3100).id)
        shop.double.move(datetime(2026, 1, 11, tzinfo=UTC))
        items: Any = [{"id": made["items"].data[0].id, "price": shop.flat(6200).id}]
        shop.v1.subscriptions.update(made.id, {"items": items})
        shop.double.move(FEBRUARY + HOUR)
        assert [each["total"] for each in shop.invoices(customer)] == [3100, 2100 + 6200]

    def test_of_a_metered_price_bill_what_was_used_before(self, shop: Shop) -> None:
        customer = shop.customer().id
        dearer = shop.v1.prices.create(
            {
                "currency": "usd",
                "product": shop.product.id,
                "unit_amount_decimal": "0.0002",
                "recurring": {"interval": "month", "usage_type": "metered", "meter": shop.meter.id},
            }
        )
        made = shop.subscribe(customer)
        shop.use(customer, 10_000_000)
        shop.double.move(datetime(2026, 1, 11, tzinfo=UTC))
        items: Any = [{"id": made["items"].data[0].id, "price": dearer.id}]
        shop.v1.subscriptions.update(made.id, {"items": items})
        shop.use(customer, 10_000_000)
        shop.double.move(FEBRUARY + HOUR)
        assert shop.invoices(customer)[-1]["total"] == 1000 + 2000

    def test_cancel_at_the_end_of_the_period_bills_it(self, shop: Shop) -> None:
        customer = shop.customer().id
        made = shop.subscribe(customer)
        shop.use(customer, 10_000_000)
        shop.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
        shop.double.move(FEBRUARY + HOUR)
        assert shop.v1.subscriptions.retrieve(made.id).status == "canceled"
        assert shop.invoices(customer)[-1]["total"] == 1000

    def test_cancelled_at_once_bills_usage_only_when_asked(self, shop: Shop) -> None:
        totals = []
        for now in (False, True):
            customer = shop.customer().id
            made = shop.subscribe(customer)
            shop.use(customer, 10_000_000)
            shop.double.advance(minutes=1)
            shop.v1.subscriptions.cancel(made.id, {"invoice_now": now})
            shop.double.advance(hours=1)
            totals.append([each["total"] for each in shop.invoices(customer)])
        assert totals == [[0], [0, 1000]]

    def test_of_the_tier_charge_each_part_at_its_own(self, shop: Shop) -> None:
        customer = shop.customer().id
        recurring: Any = {"interval": "month", "usage_type": "metered", "meter": shop.meter.id}
        price = shop.v1.prices.create(
            {
                "currency": "usd",
                "product": shop.product.id,
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": [
                    {"up_to": 1000, "unit_amount": 0},
                    {"up_to": "inf", "unit_amount_decimal": "0.5"},
                ],
                "recurring": recurring,
            }
        )
        shop.subscribe(customer, price.id)
        shop.use(customer, 1501)
        shop.double.move(FEBRUARY + HOUR)
        assert shop.invoices(customer)[-1]["total"] == 251


class TestAnchors:
    def test_make_periods_calendar_months(self, shop: Shop) -> None:
        shop.double.move(datetime(2026, 1, 16, 7, tzinfo=UTC))
        customer = shop.customer().id
        config: Any = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
        made = shop.subscribe(customer, shop.flat(3100).id, shop.price.id, billing_cycle_anchor_config=config)
        assert made["items"].data[0].current_period_end == int(FEBRUARY.timestamp())
        shop.use(customer, 10_000_000)
        shop.double.move(datetime(2026, 3, 1, 2, tzinfo=UTC))
        # Half of January is paid ahead; February's invoice has January's use.
        assert [each["total"] for each in shop.invoices(customer)] == [1571, 3100 + 1000, 3100]

    def test_ask_nothing_for_the_rest_of_a_month_where_told_so(self, shop: Shop) -> None:
        shop.double.move(datetime(2026, 1, 16, 7, tzinfo=UTC))
        customer = shop.customer().id
        config: Any = {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}
        how: Any = {"billing_cycle_anchor_config": config, "proration_behavior": "none"}
        shop.subscribe(customer, shop.flat(3100).id, **how)
        assert [each["total"] for each in shop.invoices(customer)] == [0]


class TestTrials:
    def test_are_free_and_then_renew(self, shop: Shop) -> None:
        customer = shop.customer().id
        made = shop.subscribe(customer, shop.flat(2000).id, shop.price.id, trial_period_days=14)
        assert made.status == "trialing"
        shop.use(customer, 10_000_000)
        shop.double.advance(days=14, hours=1)
        assert shop.v1.subscriptions.retrieve(made.id).status == "active"
        assert [each["total"] for each in shop.invoices(customer)] == [0, 2000]

    def test_end_with_the_subscription_where_there_is_no_card(self, shop: Shop) -> None:
        customer = shop.customer(card=None).id
        settings: Any = {"end_behavior": {"missing_payment_method": "cancel"}}
        made = shop.subscribe(customer, shop.flat(2000).id, trial_period_days=14, trial_settings=settings)
        shop.double.advance(days=14)
        assert shop.v1.subscriptions.retrieve(made.id).status == "canceled"


class TestReturns:
    def test_credit_notes_reduce_open_invoices(self, shop: Shop) -> None:
        customer = shop.customer(card="pm_card_chargeCustomerFail").id
        shop.subscribe(customer)
        shop.use(customer, 10_000_000)
        shop.double.move(FEBRUARY + HOUR)
        invoice = shop.invoices(customer)[-1]["id"]
        shop.v1.credit_notes.create({"invoice": invoice, "amount": 400})
        assert shop.v1.invoices.retrieve(invoice).amount_remaining == 600
        with pytest.raises(stripe.InvalidRequestError):
            shop.v1.credit_notes.create({"invoice": invoice, "amount": 601})

    def test_credit_notes_on_paid_invoices_give_back(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.subscribe(customer)
        shop.use(customer, 10_000_000)
        shop.double.move(FEBRUARY + HOUR)
        invoice = shop.invoices(customer)[-1]["id"]
        note = shop.v1.credit_notes.create(
            {"invoice": invoice, "amount": 400, "refund_amount": 300, "credit_amount": 100}
        )
        assert (note.type, note.refunds[0].amount_refunded) == ("post_payment", 300)
        assert shop.v1.customers.retrieve(customer).balance == -100
        assert [each.amount for each in shop.v1.refunds.list().data] == [300]


class TestManualInvoices:
    def test_collect_items(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.v1.invoice_items.create({"customer": customer, "amount": 700, "currency": "usd"})
        made = shop.v1.invoices.create(
            {"customer": customer, "pending_invoice_items_behavior": "include", "auto_advance": False}
        )
        shop.v1.invoices.finalize_invoice(made.id)
        paid = shop.v1.invoices.pay(made.id)
        assert (paid.status, paid.amount_paid) == ("paid", 700)
        with pytest.raises(stripe.InvalidRequestError):
            shop.v1.invoices.void_invoice(made.id)

    def test_sent_ones_wait_for_the_customer(self, shop: Shop) -> None:
        customer = shop.customer(card=None).id
        shop.subscribe(customer, collection_method="send_invoice", days_until_due=14)
        shop.use(customer, 10_000_000)
        shop.double.move(FEBRUARY + HOUR)
        invoice = shop.invoices(customer)[-1]
        assert invoice["status"] == "open"
        shop.double.pay_invoice(invoice["id"])
        assert shop.invoices(customer)[-1]["status"] == "paid"
