from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers

from noburn.kit import ids
from noburn.kit.money import LIMIT_NANO_MAX
from noburn.kit.rest.fields import TimeField, UsdField, WireIdField


class TestUsdField:
    @given(st.integers(0, LIMIT_NANO_MAX))
    def test_reads_what_it_spells(self, nano: int) -> None:
        field = UsdField()
        assert field.to_internal_value(field.to_representation(nano)) == nano

    @pytest.mark.parametrize("amount", [0.25, 1, "1e3", "-1", "0.0000000001", "", None, "9007200", [], "NaN"])
    def test_refuses_what_is_no_exact_amount(self, amount: Any) -> None:
        with pytest.raises(serializers.ValidationError):
            UsdField().run_validation(amount)


class TestWireIdField:
    @given(st.uuids())
    def test_reads_what_it_spells(self, value: UUID) -> None:
        field = WireIdField(ids.BUDGET)
        assert field.to_internal_value(field.to_representation(value)) == value

    @pytest.mark.parametrize(
        "text", ["", "bud_", "cus_01jd2c8vq6f5k9s0m3w7x4y1z2", 7, None, {}, "bud_" + "u" * 26]
    )
    def test_refuses_ids_of_other_things(self, text: Any) -> None:
        with pytest.raises(serializers.ValidationError):
            WireIdField(ids.BUDGET).run_validation(text)


class TestTimeField:
    def test_reads_any_zone_as_utc(self) -> None:
        assert TimeField().to_internal_value("2026-11-22T13:00:00+01:00") == datetime(
            2026, 11, 22, 12, tzinfo=UTC
        )
        assert TimeField().to_representation(datetime(2026, 11, 22, 12, tzinfo=UTC)) == "2026-11-22T12:00:00Z"

    @pytest.mark.parametrize(
        "text",
        ["2026-11-22T12:00:00", "2026-11-22", "now", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", 5],
    )
    def test_refuses_times_without_a_zone_and_out_of_range(self, text: Any) -> None:
        with pytest.raises(serializers.ValidationError):
            TimeField().to_internal_value(text)
