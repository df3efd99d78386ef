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
        hold = till.use(1_000, NOON)
        till.live(NOON + 2 * HOUR)
        till.book.rerate(hold, -100_000)
        till.live(NOON + 4 * HOUR)
        assert till.values() == [1_000, -100]
        assert till.states() == ["delivered", "delivered"]
        assert till.counted() == 900

    def test_does_nothing_twice(self, till: Till) -> None:
        till.link()
        till.use(100, NOON)
        till.live(NOON + 2 * HOUR)
        till.freeze()
        till.freeze()
        assert till.values() == [100]


class TestPeriods:
    def test_invoices_a_month_to_the_micro(self, till: Till) -> None:
        till.link()
        total = spread(till, START, NEXT)
        till.to(NEXT)
        till.live(NEXT + 3 * HOUR)
        (invoice,) = till.invoices()
        assert [line["quantity"] for line in invoice["lines"]["data"]] == [total]
        first, second = till.periods()
        assert (first.invoiced_micro, first.closed_at is not None) == (total, True)
        assert second.starts_at == NEXT

    def test_carry_what_comes_after_the_invoice_is_final(self, till: Till) -> None:
        till.link()
        till.use(700_000, NOON)
        till.to(NEXT)
        till.live(NEXT + 3 * HOUR)
        till.use(50_000, NOON + HOUR)
        till.live(NEXT + 6 * HOUR)
        first, second = till.periods()
        assert first.invoiced_micro == 700_000
        carried = [row for row in till.rows() if row.carried_from_id is not None]
        assert [(row.value_micro, row.period_id, row.carried_from_id) for row in carried] == [
            (50_000, second.pk, first.pk)
        ]
        found = {row.period_id: row for row in till.reconcile()}
        assert all(row.agrees for row in found.values())
        assert found[first.pk].differences == [{"kind": "carried_out", "micro": 50_000}]
        assert {"kind": "carried_in", "micro": -50_000} in found[second.pk].differences

    def test_carry_a_whole_month_that_was_told_too_late_for_its_invoice(self, till: Till) -> None:
        till.link()
        total = spread(till, START, NEXT)
        till.to(NEXT + 2 * HOUR)
        till.work()
        till.events()
        till.live(NEXT + 5 * HOUR)
        first, _ = till.periods()
        assert first.invoiced_micro == 0
        assert sum(row.value_micro for row in till.rows() if row.period_id == first.pk) == total
        assert sum(row.value_micro for row in till.rows() if row.carried_from_id == first.pk) == total
        found = {row.period_id: row for row in till.reconcile()}
        kinds = {each["kind"]: each["micro"] for each in found[first.pk].differences}
        assert kinds == {"carried_out": total, "after_invoice": total}
        assert all(row.agrees for row in found.values())

    def test_carry_what_was_used_before_the_customer_was_linked(self, till: Till) -> None:
        till.use(30_000, NOON)
        till.to(START + 5 * DAY)
        till.link()
        till.use(400, START + 5 * DAY + HOUR)
        till.live(START + 6 * DAY)
        before, present = till.periods()
        assert (before.starts_at, before.ends_at) == (START, START + 5 * DAY)
        assert (present.starts_at, present.ends_at) == (START + 5 * DAY, NEXT)
        assert sorted((row.kind, row.value_micro) for row in till.rows()) == [
            ("carry", 30_000),
            ("usage", 400),
        ]

    def test_begin_in_the_hour_in_which_the_subscription_does(self, till: Till) -> None:
        till.to(NOON + 34 * MINUTE)
        till.use(250, NOON + 10 * MINUTE)
        till.link()
        till.live(NOON + 3 * HOUR)
        _, present = till.periods()
        assert present.starts_at == NOON
        (row,) = till.rows()
        assert present.stripe_starts_at is not None
        assert row.at >= present.stripe_starts_at
        assert till.counted() == 250


def spread(till: Till, since: datetime, until: datetime) -> int:
    """Some use every fifth day; returns how much in all."""
    days = range(0, (until - since).days, 5)
    for day in days:
        till.use(10_000 + day, since + day * DAY + 5 * HOUR)
    return sum(10_000 + day for day in days)
