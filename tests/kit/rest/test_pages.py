from __future__ import annotations

import base64
import contextlib
from datetime import datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noburn.kit.rest.pages import BadPage, cursor_of, cut, read_page


class TestCursor:
    @given(st.datetimes(), st.text(max_size=200), st.integers(min_value=0))
    def test_gives_back_the_key_that_it_spells(self, at: datetime, name: str, number: int) -> None:
        name = name.encode("utf-8", "replace").decode()
        cursor = cursor_of([at.isoformat(), name, number])
        assert cursor.isascii()
        wanted = read_page({"cursor": cursor}, key=[datetime.fromisoformat, str, int])
        assert wanted.after == (at, name, number)

    @pytest.mark.parametrize(
        "cursor", ["", "!", "AAAA", "a" * 3000, cursor_of(["x"]), cursor_of([UUID(int=7), "more"])]
    )
    def test_is_refused_when_it_is_none_of_this_list(self, cursor: str) -> None:
        with pytest.raises(BadPage) as refused:
            read_page({"cursor": cursor}, key=[UUID])
        assert [e.field for e in refused.value.errors] == ["cursor"]

    @given(st.binary(max_size=60))
    def test_never_breaks_on_odd_bytes(self, noise: bytes) -> None:
        text = base64.urlsafe_b64encode(noise).decode()
        with contextlib.suppress(BadPage):
            read_page({"cursor": text}, key=[UUID])


class TestLimit:
    @pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "1.5", "", "²", "00000001"])
    def test_is_refused_outside_its_bounds(self, limit: str) -> None:
        with pytest.raises(BadPage, match="limit"):
            read_page({"limit": limit}, key=[UUID])


class TestCut:
    @given(st.lists(st.integers(), unique=True, max_size=30), st.integers(1, 10))
    def test_goes_through_all_rows_once(self, rows: list[int], limit: int) -> None:
        rows.sort()
        seen: list[int] = []
        after = None
        for _ in range(31):
            rest = [row for row in rows if after is None or row > after]
            page, cursor = cut(rest[: limit + 1], limit, lambda row: [row])
            seen += page
            if cursor is None:
                break
            (after,) = read_page({"cursor": cursor}, key=[int]).after or (None,)
        assert seen == rows
