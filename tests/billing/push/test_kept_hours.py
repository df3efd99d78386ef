"""Hours are not pruned while a period is not charged for good; where they are gone, somebody hears of it once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from alerts.models import Alert
from billing.services.kept_hours import needed_hours
from budgets.services import metering
from tests.billing.push.till import DAY, HOUR, START, forget_others

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

BEGAN = START + 13 * HOUR


class TestHoursOfOpenPeriods:
    def test_are_kept_for_at_most_so_long(self, till: Till) -> None:
        till.to(BEGAN)
        till.link()
        first = till.periods()[-1]
        now = first.starts_at + 120 * DAY
        assert needed_hours(now=now) == first.starts_at
        assert metering.kept_from(now=now, days=92) == first.starts_at
        later = first.starts_at + 500 * DAY
        assert needed_hours(now=later) is None
        assert metering.kept_from(now=later, days=92) == later - timedelta(days=92)

    def test_are_nobodys_where_no_account_is_connected(self, till: Till) -> None:
        till.link()
        assert needed_hours(now=till.now + 100 * DAY) is not None
        forget_others()
        assert needed_hours(now=till.now + 100 * DAY) is None


class TestAPeriodWhoseHoursAreGone:
    def test_is_given_up_with_an_alert_and_stops_nothing(self, till: Till) -> None:
        till.to(BEGAN)
        till.link()
        till.use(1_000, BEGAN + HOUR)
        till.live(BEGAN + 3 * HOUR)
        till.use(2_000, BEGAN + 4 * HOUR)
        till.book.owner.execute("UPDATE usage_cursor SET hours_from = %s", [BEGAN + 2 * HOUR])
        till.live(BEGAN + 8 * HOUR)
        assert (till.values(), till.periods()[-1].closed_at) == ([1_000], BEGAN + 3 * HOUR + HOUR / 3)
        told = Alert.objects.filter(tenant_id=till.tenant_id, kind="push_failed")
        (alert,) = told
        assert "no longer known by the hour" in alert.details["reason"]
        # The next period is billed as ever.
        ends_at = till.periods()[-1].ends_at
        till.to(ends_at + HOUR)
        till.use(500, ends_at + HOUR / 2)
        till.live(ends_at + 3 * HOUR)
        assert till.values() == [1_000, 500]
        assert told.count() == 1
