"""Closed windows become measurements, and Stripe gets each of them once."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from tests.billing.push.till import DAY, HOUR, MINUTE, NEXT, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


class TestFreezing:
    def test_tells_a_window_once_it_has_been_over_for_the_lag(self, till: Till) -> None:
        till.link()
        till.use(1_500, NOON + 10 * MINUTE)
        till.to(NOON + HOUR + 19 * MINUTE)
        till.freeze()
        assert till.values() == []
        till.later(minutes=1)
        till.freeze()
        (row,) = till.rows()
        assert (row.value_micro, row.window_starts_at, row.seq) == (1_500, NOON, 0)
        assert NOON <= row.at < NOON + HOUR
        assert row.key.startswith("nb:test:ten_")
        assert len(row.key) <= 100

    def test_carries_what_is_less_than_a_micro(self, till: Till) -> None:
        till.link()
        for hour in range(4):
            till.use(0, NOON + hour * HOUR, nano=600)
        till.live(NOON + 5 * HOUR)
        assert till.values() == [1, 1]
        assert till.counted() == 2

    def test_tells_late_use_with_the_next_look(self, till: Till) -> None:
        till.link()
        till.use(100, NOON)
        till.live(NOON + 2 * HOUR)
        till.use(40, NOON + MINUTE)
        till.use(3, NOON + HOUR)
        till.live(NOON + 3 * HOUR)
        assert till.values() == [100, 40, 3]

    def test_takes_back_what_turned_out_to_be_less(self, till: Till) -> None:
        till.link()
        hold = till.use(100, NOON)
        till.use(900, NOON)
        till.live(NOON + 2 * HOUR)
        till.book.call("acme", NOON, hold=hold, state="voided")
        till.live(NOON + 4 * HOUR)
        assert till.values() == [1_000, -100]
        assert till.counted() == 900

    def test_does_nothing_twice(self, till: Till) -> None:
        till.link()
        till.use(100, NOON)
        till.live(NOON + 2 * HOUR)
        till.freeze()
        till.freeze()
        assert till.values() == [100]


class TestPushing:
    def test_delivers_and_stripe_counts_it(self, till: Till) -> None:
        till.link()
        till.use(2_000_000, NOON)
        till.live(NOON + 2 * HOUR)
        assert till.states() == ["delivered"]
        assert till.counted() == 2_000_000
        till.live(START + 3 * DAY)
        assert till.reconcile()[-1].agrees

    def test_invoices_a_month_to_the_micro(self, till: Till) -> None:
        till.link()
        at: datetime = START
        total = 0
        for day in range((NEXT - START).days):
            till.use(10_000 + day, at + 5 * HOUR)
            total += 10_000 + day
            at += DAY
        till.to(NEXT)
        till.live(NEXT + 3 * HOUR)
        (invoice,) = till.invoices()
        assert [line["quantity"] for line in invoice["lines"]["data"]] == [total]
        first, second = till.periods()
        assert (first.invoiced_micro, first.closed_at is not None) == (total, True)
        assert second.starts_at == NEXT
