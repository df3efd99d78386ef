"""By which rates a call is priced again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from budgets.domain.policy import PriceOverrideRule
from budgets.domain.pricing_book import ModelEntry, PriceBook, PriceEntry, ProviderEntry
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import Rates, Usage
from budgets.domain.pricing_settled import named_rates, rates_as_of
from budgets.domain.rerating import LeftOut, Repriced, SeenCall, repriced

FIRST, SECOND = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
MORNING, EVENING = datetime(2026, 1, 10, 8, tzinfo=UTC), datetime(2026, 1, 10, 20, tzinfo=UTC)
DISCOUNT = PriceOverrideRule(UUID(int=7), "maker", "*", 500_000, (), SECOND, None)


def _entries(
    model: str, number: int, pico: int, starts: datetime, ends: datetime | None, *day: int
) -> ModelEntry:
    daily_from, daily_to = day or (0, 1440)
    prices = tuple(
        PriceEntry(number + at, "", unit, 0, pico, starts, ends, daily_from, daily_to)
        for at, unit in enumerate(("input_tokens", "output_tokens"))
    )
    return ModelEntry(model, None, False, None, prices)


def _both(first: ModelEntry, *others: ModelEntry) -> ModelEntry:
    prices = first.prices + tuple(price for other in others for price in other.prices)
    return ModelEntry(first.model, None, False, None, prices)


BOOK = PriceBook(
    1,
    [
        ProviderEntry(
            "maker",
            None,
            None,
            (),
            (
                _both(_entries("plain", 1, 1_000, FIRST, SECOND), _entries("plain", 3, 2_000, SECOND, None)),
                _both(
                    _entries("tides", 11, 4_000, FIRST, SECOND),
                    _entries("tides", 13, 6_000, SECOND, None, 0, 720),
                    _entries("tides", 15, 8_000, SECOND, None, 720, 1440),
                ),
            ),
        )
    ],
)


def _rates(asked: str, as_of: datetime, placed_at: datetime = MORNING, **fields: Any) -> Rates | None:
    fields = {"provider": "maker", "reported": "", "price_name": "1", **fields}
    return rates_as_of(
        BOOK, TenantPrices([DISCOUNT]), asked=asked, as_of=as_of, placed_at=placed_at, **fields
    )


class TestRatesAsOf:
    def test_are_those_of_that_time_with_what_was_negotiated_then(self) -> None:
        before, after = _rates("plain", FIRST), _rates("plain", SECOND)
        assert before is not None
        assert after is not None
        assert (before.units["input_tokens"], before.override) == (((0, 1_000),), "")
        # Twice as dear, at half the price.
        assert after.units["input_tokens"] == ((0, 1_000),)
        assert after.override

    @pytest.mark.parametrize("as_of", [SECOND, datetime(2026, 3, 5, 15, tzinfo=UTC)])
    @pytest.mark.parametrize(("placed_at", "pico"), [(MORNING, 3_000), (EVENING, 4_000)])
    def test_go_by_the_time_of_day_of_the_call(self, as_of: datetime, placed_at: datetime, pico: int) -> None:
        rates = _rates("tides", as_of, placed_at)
        assert rates is not None
        assert rates.units["input_tokens"] == ((0, pico),)

    def test_are_those_of_the_model_that_answered(self) -> None:
        rates = _rates("plain", FIRST, reported="tides")
        assert rates is not None
        assert rates.model == "tides"

    def test_are_the_dearest_only_where_the_hold_had_them(self) -> None:
        priced, negotiated = _rates("another", FIRST), _rates("another", FIRST, price_name="0+pov_x")
        assert priced is not None
        assert priced.variant == "dearest"
        assert negotiated is None

    def test_are_found_by_their_name(self) -> None:
        rates = _rates("plain", SECOND)
        assert rates is not None
        prices = TenantPrices([DISCOUNT])
        asked = {"provider": "maker", "asked": "plain", "reported": ""}
        assert list(named_rates(BOOK, prices, name=rates.name, **asked)) == [rates]
        assert list(named_rates(BOOK, prices, name="99", **asked)) == []


class TestRepriced:
    CALL: dict[str, Any] = {
        "hold_id": UUID(int=1),
        "revision": 1,
        "settled": True,
        "placed_at": MORNING,
        "origin": "priced",
        "provider": "maker",
        "asked": "plain",
        "reported": "",
        "price_name": "1",
        "usage": Usage(input_tokens=1_000),
        "held_nano": 5_000,
        "cost_nano": 1_000,
    }

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"settled": False}, LeftOut.PRESUMED),
            ({"origin": "told"}, LeftOut.TOLD),
            ({"origin": "estimated"}, LeftOut.ESTIMATED),
            ({"origin": None}, LeftOut.UNKNOWN_ORIGIN),
            ({"usage": None}, LeftOut.NOT_COUNTED),
            ({"asked": "x", "price_name": ""}, LeftOut.UNPRICED),
            ({"usage": Usage(input_tokens=1, tool_calls={"web_search": 1})}, LeftOut.UNPRICED),
        ],
    )
    def test_leaves_a_call_out(self, fields: dict[str, Any], reason: LeftOut) -> None:
        call = SeenCall(**{**self.CALL, **fields})
        assert repriced(call, book=BOOK, prices=TenantPrices([]), prices_at=FIRST) is reason

    def test_prices_a_call_at_that_time_or_as_placed(self) -> None:
        call, prices = SeenCall(**self.CALL), TenantPrices([])
        assert repriced(call, book=BOOK, prices=prices, prices_at=SECOND) == Repriced(2_000, "4")
        assert repriced(call, book=BOOK, prices=prices, prices_at=None) == Repriced(1_000, "2")
