"""Whatever Stripe or the network does, each measurement is counted once, or somebody is told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from alerts.models import Alert
from billing.models import MeasurementState
from billing.services.measurements import InvalidReissue, reissue
from tests.billing.push.till import ACTOR, DAY, HOUR, MINUTE, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR
LATER = NOON + HOUR + 20 * MINUTE


@pytest.fixture
def waiting(till: Till) -> Till:
    """One measurement, frozen and not sent."""
    till.link()
    till.use(1_500, NOON)
    till.to(LATER)
    till.freeze()
    assert till.states() == ["pending"]
    return till


def alerts(till: Till) -> list[str]:
    found = Alert.objects.filter(tenant_id=till.tenant_id, kind="push_failed").order_by("pk")
    return [str(alert.details["reason"]) for alert in found]


class TestSending:
    @pytest.mark.parametrize(
        "fault",
        ["error_before", "error_after", "drop_before", "drop_after", "rate_limit", "lock"],
    )
    def test_counts_once_whatever_becomes_of_the_first_attempt(self, waiting: Till, fault: str) -> None:
        waiting.double.fault(fault, path="meter_events", method="POST")
        waiting.push()
        assert waiting.states() == ["pending"]
        waiting.later(minutes=2)
        waiting.push()
        assert waiting.states() == ["delivered"]
        assert waiting.counted() == 1_500

    def test_takes_a_duplicate_for_delivered(self, waiting: Till) -> None:
        (row,) = waiting.rows()
        # The key of the request was forgotten, the identifier was not.
        waiting.double.client(waiting.key).v1.billing.meter_events.create(
            {
                "event_name": row.meter_event,
                "identifier": row.key,
                "timestamp": int(row.at.timestamp()),
                "payload": {"stripe_customer_id": row.stripe_customer, "value": str(row.value_micro)},
            },
            {"idempotency_key": "another"},
        )
        waiting.push()
        (row,) = waiting.rows()
        assert (row.state, row.outcome) == ("delivered", "duplicate")
        assert waiting.counted() == 1_500

    def test_waits_as_long_as_it_is_told(self, waiting: Till) -> None:
        waiting.double.fault("rate_limit", path="meter_events", method="POST")
        waiting.push()
        account = waiting.account()
        assert account.paused_until is not None
        assert account.paused_until > waiting.now
        waiting.push()
        assert len(waiting.double.requests(path="meter_events")) == 1

    def test_sends_what_waits_after_an_outage(self, waiting: Till) -> None:
        waiting.double.fault("outage", path="/v1/billing/meter_events", hours=22)
        for _ in range(20):
            waiting.later(hours=1)
            waiting.work()
        waiting.later(hours=2, minutes=30)
        waiting.work()
        assert waiting.states() == ["delivered"]
        assert waiting.counted() == 1_500

    def test_stops_at_a_revoked_key_and_goes_on_with_a_new_one(self, waiting: Till) -> None:
        account = waiting.double.account(waiting.key)
        waiting.double.control("key", key=waiting.key, revoked=True)
        waiting.push()
        assert waiting.account().state == "failed"
        assert alerts(waiting) != []
        waiting.key = f"rk_test_next{waiting.key[8:]}"
        waiting.double.control("key", key=waiting.key, account=account)
        waiting.change(secret_key=waiting.key)
        waiting.set_up()
        assert waiting.account().state == "ready"
        waiting.later(minutes=5)
        waiting.push()
        assert waiting.states() == ["delivered"]
        assert waiting.counted() == 1_500


class TestAfterADay:
    """Beyond 23 hours a request is not repeated: what may have arrived is looked for."""

    def test_finds_what_arrived(self, waiting: Till) -> None:
        waiting.double.fault("error_after", path="meter_events", method="POST", kept=True)
        waiting.push()
        assert waiting.states() == ["pending"]
        waiting.double.fault("outage", path="/v1/billing/meter_events", hours=23)
        self.wait_out(waiting)
        (row,) = waiting.rows()
        assert (row.state, row.outcome) == ("delivered", "summary")
        assert waiting.counted() == 1_500

    def test_tells_anew_what_did_not_arrive(self, waiting: Till) -> None:
        waiting.double.fault("outage", path="/v1/billing/meter_events", hours=24)
        waiting.push()
        self.wait_out(waiting)
        waiting.work()
        assert next((row.seq, row.state, row.value_micro) for row in waiting.rows()) == (
            0,
            "abandoned",
            1_500,
        )
        assert waiting.states().count("delivered") == 1
        assert len({row.key for row in waiting.rows()}) == 2
        assert waiting.counted() == 1_500

    def test_asks_a_person_where_something_else_was_counted(self, waiting: Till) -> None:
        (row,) = waiting.rows()
        waiting.double.fault("outage", path="/v1/billing/meter_events", hours=22)
        waiting.push()
        waiting.later(hours=22, minutes=10)
        waiting.double.client(waiting.key).v1.billing.meter_events.create(
            {
                "event_name": row.meter_event,
                "timestamp": int(row.at.timestamp()),
                "payload": {"stripe_customer_id": row.stripe_customer, "value": "7"},
            }
        )
        waiting.double.fault("outage", path="/v1/billing/meter_events", hours=2)
        self.wait_out(waiting)
        assert waiting.states() == ["unclear"]
        assert any("counted 7" in reason for reason in alerts(waiting))

    @staticmethod
    def wait_out(till: Till) -> None:
        end = till.rows()[0].created_at + timedelta(hours=25)
        while till.now < end:
            till.later(minutes=30)
            till.push()


class TestReports:
    def test_mark_what_stripe_took_and_did_not_count(self, waiting: Till) -> None:
        (row,) = waiting.rows()
        waiting.double.client(waiting.key).v1.customers.delete(row.stripe_customer)
        waiting.push()
        assert waiting.states() == ["delivered"]
        waiting.later(minutes=10)
        waiting.events()
        (row,) = waiting.rows()
        assert (row.state, row.outcome) == ("failed", "reported")
        assert "meter_event_customer_not_found" in row.error
        assert any("meter_event_customer_not_found" in reason for reason in alerts(waiting))
        assert waiting.link_of().state == "failed"

    def test_tell_anew_once_a_person_linked_the_customer_anew(self, waiting: Till) -> None:
        (row,) = waiting.rows()
        waiting.double.client(waiting.key).v1.customers.delete(row.stripe_customer)
        waiting.push()
        waiting.later(minutes=10)
        waiting.events()
        other = waiting.double.client(waiting.key).v1.customers.create({"name": "Acme again"})
        waiting.link(stripe_customer=other.id)
        assert waiting.link_of().state == "linked"
        (row,) = waiting.rows()
        reissue(tenant_id=waiting.tenant_id, measurement_id=row.pk, actor=ACTOR, now=waiting.now)
        waiting.live(waiting.now + 3 * HOUR)
        assert "delivered" in waiting.states()
        assert waiting.counted() == 1_500
        with pytest.raises(InvalidReissue):
            reissue(tenant_id=waiting.tenant_id, measurement_id=row.pk, actor=ACTOR, now=waiting.now)


class TestReconciling:
    def test_names_what_stripe_did_not_count(self, waiting: Till) -> None:
        waiting.push()
        till = waiting
        (row,) = till.rows()
        till.double.client(till.key).v1.billing.meter_event_adjustments.create(
            {"event_name": row.meter_event, "type": "cancel", "cancel": {"identifier": row.key}}
        )
        till.later(hours=3)
        found = till.reconcile()[-1]
        assert not found.agrees
        assert found.unexplained_micro == 1_500
        assert {"kind": "unknown", "micro": 1_500} in found.differences
        assert any("do not agree" in reason for reason in alerts(till))
        # It mends nothing.
        assert till.states() == ["delivered"]

    def test_explains_what_is_under_way(self, waiting: Till) -> None:
        till = waiting
        till.use(90, till.now - MINUTE)
        till.book.roll()
        found = till.reconcile(refresh=False)[-1]
        assert found.agrees
        assert {"kind": "pending", "micro": 1_500} in found.differences
        till.double.settings(summary_lag_seconds=1_800)
        till.push()
        found = till.reconcile(refresh=False)[-1]
        assert found.agrees
        assert {"kind": "lag", "micro": 1_500} in found.differences

    def test_goes_on_without_stripe(self, waiting: Till) -> None:
        waiting.double.fault("outage", hours=5)
        waiting.later(hours=2)
        found = waiting.reconcile()[-1]
        assert found.measured_micro is None
        assert found.agrees

    def test_shows_customers_that_are_billed_to_nobody(self, till: Till) -> None:
        from billing.services import reconciling

        till.customer("globex")
        till.use(40_000, NOON, "globex")
        till.to(NOON + 3 * HOUR)
        till.book.roll()
        standing = reconciling.status(account=till.account(), now=till.now)
        assert [(one.customer, one.owed_nano, one.reason) for one in standing.waiting] == [
            ("globex", 40_000_000, "not linked")
        ]
        assert any("link 1 customers" in step for step in standing.missing)
        assert not reconciling.warn_of_waiting(account=till.account(), now=till.now)
        till.to(START + 29 * DAY)
        assert reconciling.warn_of_waiting(account=till.account(), now=till.now)
        assert any("four weeks" in reason for reason in alerts(till))


def test_states_are_those_of_the_documents() -> None:
    assert set(MeasurementState.values) == {"pending", "delivered", "failed", "unclear", "abandoned"}
