"""Idempotency keys, accounts and faults of the Stripe double."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import stripe

from tests.doubles.stripe import StripeDouble
from tests.doubles.stripe.shop import START, Shop

DAY = timedelta(days=1)


class TestIdempotency:
    def test_answers_a_repeat_the_same(self, shop: Shop) -> None:
        options: Any = {"idempotency_key": "one"}
        first = shop.v1.customers.create({"name": "a"}, options)
        again = shop.v1.customers.create({"name": "a"}, options)
        assert again.id == first.id
        assert again.last_response.headers["idempotent-replayed"] == "true"

    def test_refuses_changed_parameters(self, shop: Shop) -> None:
        options: Any = {"idempotency_key": "one"}
        shop.v1.customers.create({"name": "a"}, options)
        with pytest.raises(stripe.IdempotencyError) as caught:
            shop.v1.customers.create({"name": "b"}, options)
        assert caught.value.http_status == 400

    def test_forgets_a_key_after_a_day(self, shop: Shop) -> None:
        options: Any = {"idempotency_key": "one"}
        first = shop.v1.customers.create({"name": "a"}, options)
        shop.double.advance(days=1)
        assert shop.v1.customers.create({"name": "a"}, options).id != first.id

    def test_keeps_no_answer_of_a_call_that_never_began(self, shop: Shop) -> None:
        options: Any = {"idempotency_key": "one"}
        wrong: Any = {"colour": "red"}
        with pytest.raises(stripe.InvalidRequestError):
            shop.v1.customers.create(wrong, options)
        shop.v1.customers.create({"name": "a"}, options)

    def test_belongs_to_an_account(self, shop: Shop) -> None:
        options: Any = {"idempotency_key": "one"}
        first = shop.v1.customers.create({"name": "a"}, options)
        other = shop.double.client("rk_test_other").v1.customers.create({"name": "b"}, options)
        assert other.id != first.id


class TestAccounts:
    def test_see_nothing_of_each_other(self, shop: Shop) -> None:
        customer = shop.customer().id
        other = shop.double.client("rk_test_other")
        with pytest.raises(stripe.InvalidRequestError) as caught:
            other.v1.customers.retrieve(customer)
        assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
        assert other.v1.customers.list().data == []

    def test_are_the_same_for_a_second_key(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.double.control("key", key="rk_test_new", account=shop.double.account())
        assert shop.double.client("rk_test_new").v1.customers.retrieve(customer).id == customer
        shop.double.control("key", key=shop.key, revoked=True)
        with pytest.raises(stripe.AuthenticationError):
            shop.v1.customers.retrieve(customer)

    def test_are_reached_by_the_platform_alone_when_connected(self, stripe_double: StripeDouble) -> None:
        child = stripe_double.connect("sk_test_platform")
        at = stripe_double.client("sk_test_platform", account=child)
        made = at.v1.customers.create({"name": "a"})
        assert stripe_double.client("sk_test_platform").v1.customers.list().data == []
        assert at.v1.customers.retrieve(made.id).id == made.id
        with pytest.raises(stripe.PermissionError):
            stripe_double.client("rk_test_other", account=child).v1.customers.list()

    def test_hold_a_restricted_key_to_what_it_may(self, shop: Shop) -> None:
        shop.double.control("key", key=shop.key, denied=["POST /v1/refunds"])
        with pytest.raises(stripe.PermissionError):
            shop.v1.refunds.create({"payment_intent": "pi_x"})


class TestFaults:
    def test_500_after_the_fact_did_it(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.double.fault("error_after", path="meter_events")
        with pytest.raises(stripe.APIError):
            shop.use(customer, 5, "nb:1", key="nb:1")
        again = shop.use(customer, 5, "nb:1", key="nb:1")
        assert again.last_response.headers["idempotent-replayed"] == "true"
        shop.double.advance(minutes=1)
        assert shop.used(customer, START, START + DAY) == 5

    def test_500_after_the_fact_may_be_kept_for_a_day(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.double.fault("error_after", path="meter_events", kept=True)
        for _ in range(2):
            with pytest.raises(stripe.APIError):
                shop.use(customer, 5, "nb:1", key="nb:1")
        shop.double.advance(minutes=1)
        assert shop.used(customer, START, START + DAY) == 5

    @pytest.mark.parametrize(
        ("kind", "counted"),
        [("error_before", 0), ("drop_before", 0), ("drop_after", 5), ("rate_limit", 0), ("lock", 0)],
    )
    def test_do_or_do_not_do_what_was_asked(self, shop: Shop, kind: str, counted: int) -> None:
        customer = shop.customer().id
        shop.double.fault(kind, path="meter_events")
        with pytest.raises(stripe.StripeError):
            shop.use(customer, 5, "nb:1")
        shop.double.advance(minutes=1)
        assert shop.used(customer, START, START + DAY) == counted

    def test_hang_until_the_caller_gives_up(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.double.fault("hang_after", path="meter_events", seconds=0.3)
        with pytest.raises(stripe.APIConnectionError):
            shop.use(customer, 5, "nb:1")
        shop.double.advance(minutes=1)
        assert shop.used(customer, START, START + DAY) == 5

    def test_an_outage_ends_by_the_clock(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.double.fault("outage", hours=30)
        for _ in range(3):
            with pytest.raises(stripe.APIError):
                shop.use(customer, 5)
        shop.double.advance(hours=30)
        shop.use(customer, 5)

    def test_chance_repeats(self, shop: Shop) -> None:
        shop.double.fault("error_before", path="v1/account", times=None, chance=0.5)
        seen = []
        for _ in range(20):
            try:
                shop.v1.accounts.retrieve_current()
                seen.append(True)
            except stripe.APIError:
                seen.append(False)
        assert {True, False} == set(seen)


class TestOwnProcess:
    def test_serves_the_same(self) -> None:
        with StripeDouble(process=True) as double:
            double.set_clock(START)
            shop = Shop(double)
            customer = shop.customer().id
            shop.use(customer, 3)
            double.advance(minutes=1)
            assert shop.used(customer, START, START + DAY) == 3
            assert double.broken() == []


class TestAnswers:
    def test_that_stripe_could_not_give_are_the_doubles_defects(self, shop: Shop) -> None:
        assert shop.double._server is not None
        world = shop.double._server.engine.world
        customer = shop.customer()
        world.account_of_key(shop.key).tables["customer"][customer.id]["balance"] = "much"
        with pytest.raises(stripe.APIError, match="the double is broken"):
            shop.v1.customers.retrieve(customer.id)
        assert "balance" in shop.double.broken()[0]
        shop.double._server.broken.clear()
