from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noburn.kit.money import (
    LIMIT_NANO_MAX,
    RATE_PICO_MAX,
    BadAmount,
    divide_even,
    divide_up,
    from_usd,
    pico_to_nano_even,
    pico_to_nano_up,
    pico_to_usd,
    rate_to_pico,
    round_rate,
    to_usd,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "money.json").read_text(encoding="utf-8"))


class TestToUsd:
    @pytest.mark.parametrize(("nano", "text"), VECTORS["amounts"])
    def test_writes_the_shared_vectors(self, nano: int, text: str) -> None:
        assert to_usd(nano) == text

    def test_never_writes_a_negative_zero(self) -> None:
        assert to_usd(-0) == "0"

    @given(st.integers(-(2**70), 2**70))
    def test_is_exact_and_canonical(self, nano: int) -> None:
        text = to_usd(nano)
        assert Decimal(text) == Decimal(nano).scaleb(-9)
        assert "e" not in text.lower()
        assert "." not in text or not text.endswith(("0", "."))


class TestFromUsd:
    @pytest.mark.parametrize(("nano", "text"), VECTORS["amounts"])
    def test_reads_the_shared_vectors(self, nano: int, text: str) -> None:
        assert from_usd(text, field="amount", allow_negative=True) == nano

    @pytest.mark.parametrize(("text", "nano"), VECTORS["read_only"])
    def test_reads_superfluous_trailing_zeros(self, text: str, nano: int) -> None:
        assert from_usd(text, field="amount") == nano

    @pytest.mark.parametrize("text", VECTORS["refused"])
    def test_refuses_what_is_no_amount(self, text: str) -> None:
        with pytest.raises(BadAmount) as refused:
            from_usd(text, field="limit_usd")
        assert refused.value.field == "limit_usd"

    @pytest.mark.parametrize("number", [1, 1.5, True, None, Decimal(1), [], b"1"])
    def test_refuses_anything_but_a_string(self, number: Any) -> None:
        with pytest.raises(BadAmount, match="decimal string"):
            from_usd(number, field="amount")

    def test_refuses_a_negative_amount_unless_told_otherwise(self) -> None:
        with pytest.raises(BadAmount, match="must not be negative"):
            from_usd("-1", field="amount")
        assert from_usd("-1", field="amount", allow_negative=True) == -(10**9)

    def test_says_how_much_is_too_much(self) -> None:
        with pytest.raises(BadAmount, match=r"at most 9007199\.254740992 USD"):
            from_usd("9007199.254740993", field="amount")
        with pytest.raises(BadAmount, match="at most 10 USD"):
            from_usd("10.000000001", field="amount", max_nano=10 * 10**9)

    @given(st.integers(-LIMIT_NANO_MAX, LIMIT_NANO_MAX))
    def test_reads_back_what_was_written(self, nano: int) -> None:
        assert from_usd(to_usd(nano), field="amount", allow_negative=True) == nano


class TestRounding:
    @given(st.integers(-(2**80), 2**80), st.integers(1, 10**6))
    def test_agrees_with_exact_fractions(self, numerator: int, denominator: int) -> None:
        exact = Fraction(numerator, denominator)
        assert divide_even(numerator, denominator) == round(exact)
        assert 0 <= divide_up(numerator, denominator) - exact < 1

    @pytest.mark.parametrize(
        ("pico", "up", "even"), [(0, 0, 0), (1, 1, 0), (500, 1, 0), (501, 1, 1), (1500, 2, 2)]
    )
    def test_holds_go_up_and_costs_to_even(self, pico: int, up: int, even: int) -> None:
        assert (pico_to_nano_up(pico), pico_to_nano_even(pico)) == (up, even)


class TestRates:
    @given(st.decimals(0, 10**6, places=12, allow_nan=False))
    def test_are_exact_to_twelve_places(self, rate: Decimal) -> None:
        assert Decimal(rate_to_pico(rate, field="price")).scaleb(-12) == rate

    @pytest.mark.parametrize(
        "rate", ["1e-7", "-1", "NaN", "", "0.0000000000001", Decimal("1e-13"), Decimal("NaN"), Decimal(-1)]
    )
    def test_refuse_what_is_no_price(self, rate: Any) -> None:
        with pytest.raises(BadAmount):
            rate_to_pico(rate, field="price")

    def test_refuse_more_than_a_million_usd(self) -> None:
        assert rate_to_pico("1000000", field="price") == RATE_PICO_MAX
        with pytest.raises(BadAmount, match="at most 1000000 USD"):
            rate_to_pico("1000000.1", field="price")

    def test_print_as_a_price_page_does(self) -> None:
        assert pico_to_usd(150_000, units=10**6) == "0.15"
        assert pico_to_usd(10**10) == "0.01"
        assert pico_to_usd(5 * 10**12) == "5"

    def test_finer_than_a_row_are_rounded_half_to_even(self) -> None:
        assert round_rate(Decimal("0.0833333333333333") / 10**6) == Decimal("0.000000083333")
