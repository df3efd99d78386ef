"""The rules of the outbox by themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain import pushing
from billing.domain.reconciling import Sums, Why, explain

WINDOW = datetime(2026, 11, 22, 11, tzinfo=UTC)
TENANT, CUSTOMER = "ten_01jd2c8vq6f5k9s0m3w7x4y1z2", "cus_01jd2c8vq6f5k9s0m3w7x4y1z2"


def key(**fields: object) -> str:
    given_: dict[str, object] = {
        "live": True,
        "tenant": TENANT,
        "customer": CUSTOMER,
        "meter": "usage",
        "window": WINDOW,
        "seq": 0,
    }
    return pushing.measurement_key(**{**given_, **fields})  # type: ignore[arg-type]


class TestKeys:
    def test_say_what_they_are_for(self) -> None:
        assert key() == f"nb:live:{TENANT}:{CUSTOMER}:usage:2026112211:0"
        assert key(live=False, seq=59).endswith(":usage:2026112211:59")

    def test_are_digests_where_they_would_be_too_long(self) -> None:
        long = key(meter="a" * 60)
        assert long != key(meter="a" * 61)
        assert len(long) <= 100
        assert long.startswith("nb:live:")


class TestMoments:
    def test_lie_in_the_window_each_in_a_minute_of_its_own(self) -> None:
        found = [pushing.moment_of(window=WINDOW, seq=seq) for seq in range(60)]
        assert len(set(found)) == 60
        assert all(at is not None and WINDOW <= at < WINDOW + pushing.HOUR for at in found)
        assert pushing.moment_of(window=WINDOW, seq=60) is None


class TestWindows:
    @pytest.mark.parametrize(
        ("now", "until"),
        [("12:19", "11:00"), ("12:20", "12:00"), ("13:19", "12:00"), ("00:10", "-1:00")],
    )
    def test_close_after_the_lag(self, now: str, until: str) -> None:
        hours, minutes = map(int, now.split(":"))
        day = WINDOW.replace(hour=0)
        found = pushing.closed_until(day + timedelta(hours=hours, minutes=minutes))
        assert found == day + timedelta(hours=int(until.split(":")[0]))
        assert pushing.next_close(day + timedelta(hours=hours, minutes=minutes)) > found

    def test_months_are_calendar_months(self) -> None:
        assert pushing.month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == (
            datetime(2026, 12, 1, tzinfo=UTC),
            datetime(2027, 1, 1, tzinfo=UTC),
        )


class TestAmounts:
    @given(st.integers(-(10**17), 10**17))
    def test_in_parts_add_up_and_fit(self, value: int) -> None:
        parts = pushing.parts(value)
        if abs(value) <= 60 * pushing.VALUE_MAX:
            assert sum(parts) == value
        assert all(0 < abs(part) <= pushing.VALUE_MAX for part in parts)

    @given(st.lists(st.integers(0, 5_000), max_size=30))
    def test_told_by_differences_lose_less_than_a_micro(self, calls: list[int]) -> None:
        owed = told = 0
        for nano in calls:
            owed += nano
            told += pushing.micro(owed) - told
        assert 0 <= owed - told * 1000 < 1000


class TestRepeating:
    def test_ends_after_23_hours(self) -> None:
        assert pushing.may_repeat(first_sent_at=None, now=WINDOW)
        assert pushing.may_repeat(first_sent_at=WINDOW, now=WINDOW + timedelta(hours=22, minutes=59))
        assert not pushing.may_repeat(first_sent_at=WINDOW, now=WINDOW + timedelta(hours=23))

    def test_backs_off_to_a_quarter_of_an_hour(self) -> None:
        waits = [pushing.backoff_seconds(tries=tries, chance=0) for tries in range(1, 40)]
        assert waits[:4] == [5, 10, 20, 40]
        assert waits[-1] == 900
        assert pushing.backoff_seconds(tries=1, chance=1) == 2.5


class TestExplaining:
    @given(
        owed=st.integers(0, 10**9),
        paid=st.integers(0, 10**9),
        told=st.lists(st.integers(-(10**6), 10**6), min_size=6, max_size=6),
        closed=st.booleans(),
    )
    def test_leaves_no_difference_out(self, owed: int, paid: int, told: list[int], closed: bool) -> None:
        pending, failed, unclear, delivered, carried_in, carried_out = told
        measured, invoiced = delivered - 7, delivered - 9 if closed else None
        found = explain(
            Sums(
                owed_nano=owed + paid,
                wallet_nano=paid,
                carried_in=carried_in,
                carried_out=carried_out,
                pending=pending,
                failed=failed,
                unclear=unclear,
                delivered=delivered,
                recent_up=0,
                recent_down=0,
                measured=measured,
                invoiced=invoiced,
                linked=True,
            )
        )
        by = {each.kind: each.micro for each in found.differences}
        assert len(by) == len(found.differences)
        assert 0 <= found.remainder_nano < 1000
        total = pushing.micro(owed + paid) - by.get(Why.WALLET, 0) - by.get(Why.CARRIED_IN, 0)
        if invoiced is None:
            rest: tuple[Why, ...] = (Why.NOT_YET_CLOSED, Why.PENDING, Why.FAILED, Why.UNCLEAR, Why.UNKNOWN)
            assert total == sum(by.get(kind, 0) for kind in rest) + measured
        else:
            rest = (Why.CARRIED_OUT, Why.NOT_YET_CARRIED)
            assert total == sum(by.get(kind, 0) for kind in rest) + invoiced
            assert by[Why.AFTER_INVOICE] == measured - invoiced
        assert by[Why.UNKNOWN] == found.unexplained_micro == 7
        assert not found.agrees
