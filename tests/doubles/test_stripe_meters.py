"""Meters, meter events and their failures, as Stripe's client sees them."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import stripe

from tests.doubles.stripe.shop import EVENT, START, Shop

DAY = timedelta(days=1)


def refused(call: Any) -> stripe.StripeError:
    """Returns the error that a call ends with."""
    with pytest.raises(stripe.StripeError) as caught:
        call()
    return caught.value


class TestMeterEvents:
    def test_count_once_the_lag_is_over(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.use(customer, 700)
        shop.use(customer, -200)
        assert shop.used(customer, START, START + DAY) == 0
        shop.double.advance(seconds=30)
        assert shop.used(customer, START, START + DAY) == 500

    def test_are_unique_by_identifier_for_a_day(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.use(customer, 1, "nb:1", key="first")
        error = refused(lambda: shop.use(customer, 1, "nb:1", key="second"))
        assert isinstance(error, stripe.InvalidRequestError)
        assert (error.http_status, error.code) == (400, None)
        assert error.user_message == "An event already exists with identifier nb:1."
        assert (error.headers or {})["stripe-should-retry"] == "false"
        shop.double.advance(days=1)
        shop.use(customer, 1, "nb:1", key="third")
        shop.double.advance(minutes=1)
        assert shop.used(customer, START, START + 2 * DAY) == 2

    @pytest.mark.parametrize(
        ("offset", "code"),
        [
            (timedelta(days=-35, seconds=-1), "timestamp_too_far_in_past"),
            (timedelta(minutes=5, seconds=1), "timestamp_in_future"),
        ],
    )
    def test_are_refused_outside_the_time_window(self, shop: Shop, offset: timedelta, code: str) -> None:
        customer = shop.customer().id
        assert refused(lambda: shop.use(customer, 1, at=START + offset)).code == code

    def test_are_taken_at_the_edges_of_the_window(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.use(customer, 1, at=START - timedelta(days=35))
        shop.use(customer, 1, at=START + timedelta(minutes=5))

    @pytest.mark.parametrize("value", ["1.5", "1e3", "", "1234567890123456", "many"])
    def test_refuse_what_is_no_integer_of_15_digits(self, shop: Shop, value: str) -> None:
        customer = shop.customer().id
        assert refused(lambda: shop.use(customer, value)).http_status == 400

    def test_take_15_digits(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.use(customer, "-123456789012345")

    def test_name_a_parameter_that_stripe_does_not_know(self, shop: Shop) -> None:
        params: Any = {"event_name": EVENT, "payload": {"value": "1"}, "price": "x"}
        error = refused(lambda: shop.v1.billing.meter_events.create(params))
        assert error.code == "parameter_unknown"

    def test_take_one_call_at_a_time_for_a_customer_and_meter(self, shop: Shop) -> None:
        customer, other = shop.customer().id, shop.customer("other").id
        shop.double.fault("slow", path="meter_events", seconds=20)
        failed: list[Exception] = []

        def send() -> None:
            try:
                shop.use(customer, 1)
            except stripe.StripeError as error:
                failed.append(error)

        first = threading.Thread(target=send, daemon=True)
        first.start()
        while not shop.double.control("faults")[0]["hits"]:
            first.join(0.01)
        # The slow one is in its lane as soon as another one finds it there.
        assert any(self._is_refused(shop, customer) for _ in range(1000))
        shop.use(other, 1)
        shop.double.heal()
        first.join()
        assert failed == []

    def _is_refused(self, shop: Shop, customer: str) -> bool:
        try:
            shop.use(customer, 0)
        except stripe.RateLimitError:
            return True
        return False

    def test_of_unknown_customers_are_taken_and_reported_later(self, shop: Shop) -> None:
        shop.client.v2.core.event_destinations.create(
            {
                "name": "noburn",
                "type": "webhook_endpoint",
                "event_payload": "thin",
                "enabled_events": ["v1.billing.meter.error_report_triggered"],
                "webhook_endpoint": {"url": "http://127.0.0.1:9/hooks"},
            }
        )
        for at in range(7):
            shop.use("cus_nobody", 1, f"nb:{at}", key=f"key:{at}")
        assert shop.double.deliveries() == []
        shop.double.advance(seconds=60)
        (sent,) = shop.double.deliveries()
        notice = shop.client.parse_event_notification_without_verification(sent["body"])
        assert notice.type == "v1.billing.meter.error_report_triggered"
        event: Any = shop.client.v2.core.events.retrieve(notice.id)
        (kind,) = event.data.reason.error_types
        assert (kind.code, kind.error_count) == ("meter_event_customer_not_found", 7)
        # Samples alone, and they name the request, not the event.
        assert [each.request.identifier for each in kind.sample_errors] == [f"key:{at}" for at in range(5)]

    def test_of_unknown_meters_are_reported_without_one(self, shop: Shop) -> None:
        params: Any = {"event_name": "nothing", "payload": {"stripe_customer_id": "x", "value": "1"}}
        shop.v1.billing.meter_events.create(params)
        shop.double.advance(seconds=60)
        (event,) = shop.double.objects("thin_event")
        assert event["type"] == "v1.billing.meter.no_meter_found"
        assert "related_object" not in event

    def test_of_an_archived_meter_are_reported(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.v1.billing.meters.deactivate(shop.meter.id)
        shop.use(customer, 1)
        shop.double.advance(seconds=60)
        (event,) = shop.double.objects("thin_event")
        assert event["data"]["reason"]["error_types"][0]["code"] == "archived_meter"


class TestAdjustments:
    def test_cancel_an_event_within_a_day(self, shop: Shop) -> None:
        customer = shop.customer().id
        shop.use(customer, 5, "nb:1")
        shop.use(customer, 7, "nb:2")
        cancel: Any = {"event_name": EVENT, "type": "cancel", "cancel": {"identifier": "nb:1"}}
        shop.v1.billing.meter_event_adjustments.create(cancel)
        assert refused(lambda: shop.v1.billing.meter_event_adjustments.create(cancel)).http_status == 400
        shop.double.advance(days=1, seconds=1)
        assert shop.used(customer, START, START + DAY) == 7
        cancel["cancel"]["identifier"] = "nb:2"
        assert refused(lambda: shop.v1.billing.meter_event_adjustments.create(cancel)).http_status == 400


class TestSummaries:
    def test_come_in_pages_of_ten(self, shop: Shop) -> None:
        customer = shop.customer().id
        for hour in range(25):
            shop.use(customer, 1, at=START - timedelta(hours=hour))
        shop.double.advance(minutes=1)
        span: Any = {
            "customer": customer,
            "start_time": int((START - 2 * DAY).timestamp()),
            "end_time": int((START + DAY).timestamp()),
            "value_grouping_window": "hour",
        }
        first = shop.v1.billing.meters.event_summaries.list(shop.meter.id, span)
        assert (len(first.data), first.has_more) == (10, True)
        assert sum(each.aggregated_value for each in first.auto_paging_iter()) == 25

    def test_want_whole_minutes(self, shop: Shop) -> None:
        customer = shop.customer().id
        error = refused(lambda: shop.used(customer, START + timedelta(seconds=1), START + DAY))
        assert "minute" in str(error.user_message)


class TestPrices:
    def test_refuse_a_decimals_own_text(self, shop: Shop) -> None:
        params: Any = {"currency": "usd", "product": shop.product.id, "unit_amount_decimal": "1E-7"}
        assert refused(lambda: shop.v1.prices.create(params)).http_status == 400

    def test_give_a_lookup_key_to_one(self, shop: Shop) -> None:
        first = shop.flat(100, lookup_key="team")
        assert refused(lambda: shop.flat(200, lookup_key="team")).code == "resource_already_exists"
        second = shop.flat(200, lookup_key="team", transfer_lookup_key=True)
        found = shop.v1.prices.list({"lookup_keys": ["team"]})
        assert [each.id for each in found.data] == [second.id]
        assert shop.v1.prices.retrieve(first.id).lookup_key is None
