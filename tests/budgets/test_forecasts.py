from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.domain.forecasts import forecast

START = datetime(2026, 11, 1, tzinfo=UTC)
END = START + timedelta(days=30)


def at(days: float, *, spent: int, limit: int | None = None) -> tuple[int, datetime | None] | None:
    found = forecast(spent=spent, limit=limit, starts_at=START, ends_at=END, now=START + timedelta(days=days))
    return (found.amount, found.runs_out_at) if found else None


class TestForecast:
    def test_goes_on_as_it_went(self) -> None:
        assert at(10, spent=100) == (300, None)
        assert at(15, spent=100, limit=200) == (200, None)

    def test_says_when_the_limit_is_reached(self) -> None:
        assert at(10, spent=100, limit=150) == (300, START + timedelta(days=15))
        assert at(10, spent=100, limit=50) == (300, START + timedelta(days=10))

    @pytest.mark.parametrize("days", [-1, 0, 0.5, 30, 31])
    def test_says_nothing_too_early_or_outside(self, days: float) -> None:
        assert at(days, spent=100) is None

    def test_says_nothing_of_a_window_without_an_end(self) -> None:
        assert forecast(spent=1, limit=2, starts_at=START, ends_at=None, now=END) is None

    @given(st.integers(-(10**18), 2**63), st.integers(0, 2**53), st.floats(0.7, 29.9))
    def test_is_never_below_what_is_spent_and_never_runs_out_in_the_past(
        self, spent: int, limit: int, days: float
    ) -> None:
        found = at(days, spent=spent, limit=limit)
        assert found is not None
        amount, runs_out_at = found
        assert amount >= spent
        assert runs_out_at is None or START + timedelta(days=days) <= runs_out_at <= END
