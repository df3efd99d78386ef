from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noburn.kit import ids
from noburn.kit.ids import BadId, decode, encode, new_uuid

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class TestEncode:
    @given(st.uuids(), st.sampled_from(sorted(ids.PREFIXES)))
    def test_is_undone_by_decode(self, value: UUID, prefix: str) -> None:
        text = encode(prefix, value)
        assert len(text) == len(prefix) + 27
        assert decode(prefix, text) == value

    @given(st.uuids(), st.uuids())
    def test_keeps_the_order_of_uuids(self, a: UUID, b: UUID) -> None:
        assert (encode("key", a) < encode("key", b)) == (a < b)

    def test_spells_the_ends_of_the_range(self) -> None:
        assert encode("key", UUID(int=0)) == "key_" + "0" * 26
        assert encode("key", UUID(int=2**128 - 1)) == "key_7" + "z" * 25


class TestDecode:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "key",
            "key_",
            "bud_" + "0" * 26,
            "key_" + "0" * 25,
            "key_" + "0" * 27,
            "key_8" + "0" * 25,
            "key_" + "0" * 25 + "u",
            "key_" + "0" * 25 + "A",
            "key_" + "0" * 25 + " ",
            "key_" + "0" * 25 + "٣",
            "key_+" + "0" * 25,
            "KEY_" + "0" * 26,
        ],
    )
    def test_refuses_what_is_not_an_id_of_the_kind(self, text: str) -> None:
        with pytest.raises(BadId):
            decode("key", text)

    @given(st.text(max_size=40))
    def test_raises_nothing_but_bad_id(self, text: str) -> None:
        try:
            value = decode("key", text)
        except BadId:
            return
        assert encode("key", value) == text


class TestNewUuid:
    def test_has_the_layout_of_version_seven(self) -> None:
        value = new_uuid(NOW)
        assert value.version == 7
        assert value.variant == "specified in RFC 4122"
        assert value.int >> 80 == int(NOW.timestamp() * 1000)

    def test_sorts_by_time(self) -> None:
        made = [new_uuid(NOW + timedelta(milliseconds=i)) for i in range(50)]
        assert made == sorted(made)

    def test_differs_within_a_millisecond(self) -> None:
        assert len({new_uuid(NOW) for _ in range(1000)}) == 1000

    def test_refuses_naive_times(self) -> None:
        with pytest.raises(ValueError, match="aware"):
            new_uuid(datetime(2026, 1, 1))  # noqa: DTZ001
