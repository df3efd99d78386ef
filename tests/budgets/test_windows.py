from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budgets.domain.policy import WindowKind
from budgets.domain.windows import EPOCH, FOREVER, Window, window_at

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # Skipped midnight until 2019.
    "America/St_Johns",  # Put clocks back at 00:01 until 2011.
    "America/Havana",  # Shows 00:00 to 01:00 twice.
    "Asia/Beirut",  # Skips midnight.
    "Asia/Kathmandu",  # 5:45 ahead.
    "Asia/Tehran",
    "Australia/Lord_Howe",  # Changes by half an hour.
    "Pacific/Apia",  # Had no 30 December 2011.
    "Pacific/Chatham",  # 12:45 ahead.
    "Pacific/Kiritimati",  # 14 hours ahead.
    "Antarctica/Troll",  # Changes by two hours.
]
BOUNDED = [kind for kind in WindowKind if kind not in (WindowKind.TOTAL, WindowKind.RUN)]
moments = st.datetimes(
    min_value=datetime(1995, 1, 1),  # noqa: DTZ001
    max_value=datetime(2037, 12, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
anchors = st.one_of(st.none(), st.integers(1, 31))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def around(kind: WindowKind, zone: str, local: str, anchor_day: int | None = None) -> tuple[str, str]:
    """The window that holds a local time, as local times with their offsets."""
    tz = ZoneInfo(zone)
    window = window_at(kind, now=at(local).replace(tzinfo=tz), zone=zone, anchor_day=anchor_day)
    assert window.ends_at is not None
    return window.starts_at.astimezone(tz).isoformat(), window.ends_at.astimezone(tz).isoformat()


class TestWindowsTileTime:
    @pytest.mark.parametrize("kind", BOUNDED)
    @given(now=moments, zone=st.sampled_from(ZONES), anchor_day=anchors)
    @example(now=at("2011-10-30T02:45:00+00:00"), zone="America/St_Johns", anchor_day=None)
    @example(now=at("2011-12-30T10:00:00+00:00"), zone="Pacific/Apia", anchor_day=30)
    @example(now=at("2026-04-04T15:10:00+00:00"), zone="Australia/Lord_Howe", anchor_day=None)
    @example(now=at("2026-10-03T15:40:00+00:00"), zone="Australia/Lord_Howe", anchor_day=None)
    @settings(max_examples=120, deadline=None)
    def test_without_gap_or_overlap(
        self, kind: WindowKind, now: datetime, zone: str, anchor_day: int | None
    ) -> None:
        def window(moment: datetime) -> Window:
            return window_at(kind, now=moment, zone=zone, anchor_day=anchor_day)

        here = window(now)
        assert here.ends_at is not None
        assert here.starts_at <= now < here.ends_at
        tick = timedelta(microseconds=1)
        middle = here.starts_at + (here.ends_at - here.starts_at) / 2
        assert window(here.starts_at) == window(middle) == window(here.ends_at - tick) == here
        assert window(here.ends_at).starts_at == here.ends_at
        assert window(here.starts_at - tick).ends_at == here.starts_at

    @pytest.mark.parametrize("zone", ZONES)
    def test_for_every_clock_change_of_forty_years(self, zone: str) -> None:
        tz = ZoneInfo(zone)
        tick = timedelta(microseconds=1)
        moment, end = datetime(1995, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
        while moment < end:
            later = moment + timedelta(days=3)
            if moment.astimezone(tz).utcoffset() != later.astimezone(tz).utcoffset():
                for kind in (WindowKind.HOUR, WindowKind.DAY):
                    step = moment
                    while step < later:
                        window = window_at(kind, now=step, zone=zone, anchor_day=None)
                        assert window.ends_at is not None
                        assert window.starts_at <= step < window.ends_at
                        last = window_at(kind, now=window.ends_at - tick, zone=zone, anchor_day=None)
                        assert last == window
                        step = window.ends_at
            moment = later


class TestHour:
    def test_follows_the_local_clock_of_a_half_hour_zone(self) -> None:
        assert around(WindowKind.HOUR, "Asia/Kathmandu", "2026-11-22T10:59:59") == (
            "2026-11-22T10:00:00+05:45",
            "2026-11-22T11:00:00+05:45",
        )

    def test_lasts_sixty_minutes_when_clocks_go_back(self) -> None:
        assert around(WindowKind.HOUR, "Europe/Berlin", "2026-10-25T02:30:00") == (
            "2026-10-25T02:00:00+02:00",
            "2026-10-25T02:00:00+01:00",
        )

    def test_is_cut_short_by_a_change_of_half_an_hour(self) -> None:
        assert around(WindowKind.HOUR, "Australia/Lord_Howe", "2026-10-04T02:40:00") == (
            "2026-10-04T02:30:00+11:00",
            "2026-10-04T03:00:00+11:00",
        )


class TestMinute:
    def test_starts_on_the_full_minute(self) -> None:
        assert around(WindowKind.MINUTE, "UTC", "2026-11-22T10:59:59.5") == (
            "2026-11-22T10:59:00+00:00",
            "2026-11-22T11:00:00+00:00",
        )


class TestDay:
    def test_lasts_23_hours_when_clocks_go_forward(self) -> None:
        assert around(WindowKind.DAY, "Europe/Berlin", "2026-03-29T12:00:00") == (
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        )

    def test_lasts_25_hours_when_clocks_go_back(self) -> None:
        assert around(WindowKind.DAY, "Europe/Berlin", "2026-10-25T12:00:00") == (
            "2026-10-25T00:00:00+02:00",
            "2026-10-26T00:00:00+01:00",
        )

    def test_begins_at_one_where_midnight_is_skipped(self) -> None:
        assert around(WindowKind.DAY, "America/Sao_Paulo", "2018-11-04T01:00:00") == (
            "2018-11-04T01:00:00-02:00",
            "2018-11-05T00:00:00-02:00",
        )

    def test_begins_once_where_midnight_comes_twice(self) -> None:
        window = window_at(
            WindowKind.DAY, now=at("2011-11-06T03:00:00+00:00"), zone="America/St_Johns", anchor_day=None
        )
        # 23:30 of the 5th on the clock, for the second time: the 6th began an hour before.
        assert window.starts_at == at("2011-11-06T02:30:00+00:00")

    def test_does_not_exist_where_a_zone_skipped_it(self) -> None:
        assert around(WindowKind.DAY, "Pacific/Apia", "2011-12-29T12:00:00") == (
            "2011-12-29T00:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
        )


class TestWeek:
    def test_begins_on_monday(self) -> None:
        assert around(WindowKind.WEEK, "UTC", "2026-11-22T23:59:59") == (
            "2026-11-16T00:00:00+00:00",
            "2026-11-23T00:00:00+00:00",
        )


class TestMonth:
    def test_is_the_calendar_month_without_an_anchor(self) -> None:
        assert around(WindowKind.MONTH, "UTC", "2024-02-29T12:00:00") == (
            "2024-02-01T00:00:00+00:00",
            "2024-03-01T00:00:00+00:00",
        )

    @pytest.mark.parametrize(
        ("local", "expected"),
        [
            ("2026-01-30T23:59:59", ("2025-12-31", "2026-01-31")),
            ("2026-01-31T00:00:00", ("2026-01-31", "2026-02-28")),
            ("2026-02-28T00:00:00", ("2026-02-28", "2026-03-31")),
            ("2026-04-30T00:00:00", ("2026-04-30", "2026-05-31")),
        ],
    )
    def test_begins_on_the_last_day_of_a_month_shorter_than_its_anchor(
        self, local: str, expected: tuple[str, str]
    ) -> None:
        found = around(WindowKind.MONTH, "UTC", local, anchor_day=31)
        assert tuple(text[:10] for text in found) == expected


class TestQuarter:
    @pytest.mark.parametrize(
        ("local", "anchor_day", "expected"),
        [
            ("2026-03-31T23:59:59", None, ("2026-01-01", "2026-04-01")),
            ("2026-01-14T23:59:59", 15, ("2025-10-15", "2026-01-15")),
            ("2026-01-15T00:00:00", 15, ("2026-01-15", "2026-04-15")),
            ("2026-04-30T00:00:00", 31, ("2026-04-30", "2026-07-31")),
        ],
    )
    def test_begins_on_its_anchor(
        self, local: str, anchor_day: int | None, expected: tuple[str, str]
    ) -> None:
        found = around(WindowKind.QUARTER, "UTC", local, anchor_day=anchor_day)
        assert tuple(text[:10] for text in found) == expected


class TestWindowAt:
    @pytest.mark.parametrize("kind", [WindowKind.TOTAL, WindowKind.RUN])
    def test_never_ends_for_totals_and_runs(self, kind: WindowKind) -> None:
        assert window_at(kind, now=at("2026-11-22T00:00:00+00:00"), zone="UTC", anchor_day=None) == FOREVER
        assert Window(EPOCH, None) == FOREVER

    @pytest.mark.parametrize("kind", list(WindowKind))
    def test_refuses_a_naive_time(self, kind: WindowKind) -> None:
        with pytest.raises(ValueError, match="aware"):
            window_at(kind, now=datetime(2026, 1, 1), zone="UTC", anchor_day=None)  # noqa: DTZ001

    @pytest.mark.parametrize("anchor_day", [0, 32, -1])
    def test_refuses_an_anchor_that_is_no_day(self, anchor_day: int) -> None:
        with pytest.raises(ValueError, match="anchor_day"):
            window_at(WindowKind.MONTH, now=EPOCH, zone="UTC", anchor_day=anchor_day)

    def test_refuses_an_unknown_zone(self) -> None:
        with pytest.raises(ZoneInfoNotFoundError):
            window_at(WindowKind.DAY, now=EPOCH, zone="Europe/Atlantis", anchor_day=None)
