"""Webhooks, checkout and payments of the Stripe double."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import stripe

from tests.doubles.stripe import ControlError, StripeDouble
from tests.doubles.stripe.shop import Shop
from tests.doubles.webhook import WebhookReceiver

PAGES: Any = {"success_url": "https://noburn.example/ok", "cancel_url": "https://noburn.example/no"}


def endpoint(shop: Shop, url: str, *kinds: str, **more: Any) -> str:
    """Registers an endpoint and returns its secret."""
    wanted: Any = list(kinds) or ["*"]
    made = shop.v1.webhook_endpoints.create({"url": url, "enabled_events": wanted, **more})
    assert made.secret is not None
    return str(made.secret)


class TestWebhooks:
    def test_are_signed_as_stripes_client_verifies(self, shop: Shop) -> None:
        with WebhookReceiver() as receiver:
            secret = endpoint(shop, receiver.url, "customer.created")
            made = shop.customer()
            assert [each["status"] for each in shop.double.deliver()] == [204]
            (received,) = receiver.received
        event = stripe.Webhook.construct_event(received.body, received.headers["stripe-signature"], secret)
        assert (event.type, event.data.object["id"]) == ("customer.created", made.id)
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(received.body + b" ", received.headers["stripe-signature"], secret)

    def test_wait_until_they_are_taken(self, shop: Shop) -> None:
        with WebhookReceiver(answers=[500]) as receiver:
            endpoint(shop, receiver.url, "customer.created")
            shop.customer()
            assert [each["status"] for each in shop.double.deliver()] == [500]
            assert [each["status"] for each in shop.double.deliver()] == [204]
            assert shop.double.deliver() == []

    def test_come_twice_and_out_of_order(self, shop: Shop) -> None:
        with WebhookReceiver() as receiver:
            endpoint(shop, receiver.url, "customer.created", "customer.updated")
            shop.customer()
            shop.double.deliver(order="reversed", duplicates=2)
            kinds = [each.json["type"] for each in receiver.received]
        assert kinds == ["customer.updated"] * 2 + ["customer.created"] * 2

    def test_of_connected_accounts_name_them(self, stripe_double: StripeDouble) -> None:
        child = stripe_double.connect("sk_test_platform")
        platform = stripe_double.client("sk_test_platform")
        platform.v1.webhook_endpoints.create(
            {"url": "http://127.0.0.1:9/", "enabled_events": ["*"], "connect": True}
        )
        stripe_double.client("sk_test_platform", account=child).v1.customers.create({"name": "a"})
        (sent,) = stripe_double.deliveries()
        assert f'"account": "{child}"' in sent["body"]

    def test_may_be_read_as_events(self, shop: Shop) -> None:
        shop.customer()
        kinds = {each.type for each in shop.v1.events.list({"type": "customer.*"}).data}
        assert kinds == {"customer.created", "customer.updated"}


class TestCheckout:
    def test_takes_a_payment_and_keeps_the_card(self, shop: Shop) -> None:
        customer = shop.customer(card=None).id
        lines: Any = [
            {
                "quantity": 1,
                "price_data": {"currency": "usd", "unit_amount": 5000, "product": shop.product.id},
            }
        ]
        keep: Any = {"setup_future_usage": "off_session", "metadata": {"top_up": "1"}}
        made = shop.v1.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": customer,
                "line_items": lines,
                "payment_intent_data": keep,
                **PAGES,
            }
        )
        assert (made.status, made.url is not None) == ("open", True)
        with pytest.raises(ControlError):
            shop.double.pay_checkout(made.id, card="pm_card_chargeDeclinedInsufficientFunds")
        shop.double.pay_checkout(made.id)
        done = shop.v1.checkout.sessions.retrieve(made.id)
        assert (done.status, done.payment_status, done.amount_total) == ("complete", "paid", 5000)
        intent = shop.v1.payment_intents.retrieve(str(done.payment_intent))
        assert (intent.status, intent.metadata["top_up"]) == ("succeeded", "1")
        again = shop.v1.payment_intents.create(
            {
                "amount": 2000,
                "currency": "usd",
                "customer": customer,
                "payment_method": str(intent.payment_method),
                "confirm": True,
                "off_session": True,
            }
        )
        assert again.status == "succeeded"

    def test_starts_a_subscription(self, shop: Shop) -> None:
        lines: Any = [{"price": shop.flat(2000).id, "quantity": 1}, {"price": shop.price.id}]
        made = shop.v1.checkout.sessions.create(
            {"mode": "subscription", "line_items": lines, "customer_email": "a@example.com", **PAGES}
        )
        shop.double.pay_checkout(made.id)
        done = shop.v1.checkout.sessions.retrieve(made.id, {"expand": ["subscription"]})
        subscription: Any = done.subscription
        assert (subscription.status, subscription.customer) == ("active", done.customer)
        assert shop.invoices(str(done.customer))[0]["total"] == 2000

    def test_sets_up_a_card(self, shop: Shop) -> None:
        customer = shop.customer(card=None).id
        made = shop.v1.checkout.sessions.create(
            {"mode": "setup", "customer": customer, "currency": "usd", **PAGES}
        )
        shop.double.pay_checkout(made.id)
        assert len(shop.v1.customers.payment_methods.list(customer).data) == 1

    def test_expires_after_a_day(self, shop: Shop) -> None:
        made = shop.v1.checkout.sessions.create({"mode": "setup", "currency": "usd", **PAGES})
        shop.double.advance(days=1)
        assert shop.v1.checkout.sessions.retrieve(made.id).status == "expired"
        with pytest.raises(ControlError):
            shop.double.pay_checkout(made.id)

    def test_portal_sessions_have_a_url(self, shop: Shop) -> None:
        customer = shop.customer().id
        made = shop.v1.billing_portal.sessions.create(
            {"customer": customer, "return_url": "https://a.example"}
        )
        assert made.url.startswith("https://billing.stripe.com/")


class TestPayments:
    @pytest.mark.parametrize(
        ("card", "code"),
        [
            ("pm_card_chargeCustomerFail", "card_declined"),
            ("pm_card_chargeDeclinedInsufficientFunds", "card_declined"),
            ("pm_card_authenticationRequired", "authentication_required"),
        ],
    )
    def test_are_declined_as_documented(self, shop: Shop, card: str, code: str) -> None:
        customer = shop.customer(card=card)
        (method,) = shop.v1.customers.payment_methods.list(customer.id).data
        with pytest.raises(stripe.CardError) as caught:
            shop.v1.payment_intents.create(
                {
                    "amount": 2000,
                    "currency": "usd",
                    "customer": customer.id,
                    "payment_method": method.id,
                    "confirm": True,
                    "off_session": True,
                }
            )
        assert (caught.value.http_status, caught.value.code) == (402, code)
        (intent,) = shop.v1.payment_intents.list({"customer": customer.id}).data
        assert intent.status == "requires_payment_method"
        assert intent.last_payment_error is not None


class TestSearch:
    def test_finds_by_metadata_after_a_while(self, shop: Shop) -> None:
        made = shop.customer("acme")
        query: Any = {"query": "metadata['noburn_customer']:'acme'"}
        assert shop.v1.customers.search(query).data == []
        shop.double.advance(seconds=60)
        assert [each.id for each in shop.v1.customers.search(query).data] == [made.id]

    def test_pages_are_walked(self, shop: Shop) -> None:
        for at in range(12):
            shop.v1.customers.create({"name": f"c{at}"})
            shop.double.advance(seconds=1)
        first = shop.v1.customers.list()
        assert (len(first.data), first.has_more) == (10, True)
        assert len(list(first.auto_paging_iter())) == 12
        later = int((shop.double.now - timedelta(seconds=2)).timestamp())
        assert len(shop.v1.customers.list({"created": {"gte": later}}).data) == 2
