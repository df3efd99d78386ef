"""Cheaper models for the answer to a call that does not fit: only such as can be called."""

from __future__ import annotations

from typing import Any

from budgets.domain.pricing_alternatives import alternatives
from budgets.domain.pricing_book import PriceBook
from tests.budgets.price_books import BOOK, NOW, entry, model, provider


class TestAlternatives:
    def offer(self, **changes: Any) -> list[tuple[str, int]]:
        call: dict[str, Any] = {
            "at": NOW,
            "input_tokens": 10_000,
            "max_output_tokens": 10_000,
            "at_most_nano": 2_700,
        } | changes
        return [(a.model, a.bound_nano) for a in alternatives(BOOK, "openai", **call)]

    def test_are_those_that_fit_the_dearest_first(self) -> None:
        assert self.offer(at_most_nano=5_000) == [
            ("gpt-9-2026-01-02", 3000),
            ("gpt-9-mini", 2700),
            ("gpt-9-nano", 270),
        ]
        assert self.offer(at_most_nano=2_699) == [("gpt-9-nano", 270)]

    def test_keep_to_the_allow_list_and_the_limit(self) -> None:
        assert self.offer(allowed=lambda name: name != "gpt-9-mini") == [("gpt-9-nano", 270)]
        assert self.offer(limit=1) == [("gpt-9-mini", 2700)]

    def test_leave_out_what_could_not_take_the_call(self) -> None:
        book = PriceBook(
            1,
            [
                provider(
                    "p",
                    model("old", deprecated=True),
                    model("sold-elsewhere", offered=False),
                    model("small", context_window=9_999),
                    model("free", read=0, written=0),
                    model("embedding", prices=(entry("input_tokens", 1),)),
                    model(
                        "ended",
                        prices=(entry("input_tokens", 1, effective_to=NOW), entry("output_tokens", 1)),
                    ),
                    model(
                        "sings",
                        prices=(
                            entry("input_tokens", 1),
                            entry("output_tokens", 1),
                            entry("output_audio_tokens", 9),
                        ),
                    ),
                    model("good"),
                )
            ],
        )
        found = alternatives(book, "p", at=NOW, input_tokens=10_000, max_output_tokens=1, at_most_nano=10**9)
        assert [each.model for each in found] == ["good"]
