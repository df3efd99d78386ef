"""Counting texts: equal to tiktoken where the ranks are there, never below it where they are not."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noburn_sdk import _ranks, estimate

from benchmarks import reference
from tests.estimates.texts import SCRIPTS, anything, script

RANKS: tuple[reference.Ranks, ...] = ("o200k_base", "cl100k_base")
MODEL: dict[reference.Ranks, str] = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}


class _NoRanks:
    """Takes the optional package away for a while."""

    def __enter__(self) -> None:
        self._before = dict(_ranks._loaded)
        _ranks._loaded.update(dict.fromkeys(RANKS))

    def __exit__(self, *_: object) -> None:
        _ranks._loaded.clear()
        _ranks._loaded.update(self._before)


class TestRanks:
    @pytest.mark.parametrize(
        ("name", "sha256"),
        [
            ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
            ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
        ],
    )
    def test_are_the_published_files(self, name: reference.Ranks, sha256: str) -> None:
        assert hashlib.sha256(reference.ranks_file(name)).hexdigest() == sha256

    @pytest.mark.parametrize("name", RANKS)
    def test_in_the_binding_are_those_of_the_files(self, name: reference.Ranks) -> None:
        encoding = reference.encoding(name)
        tokenizer = _ranks._tokenizer(name)
        # Each token that is a text of its own is one token, the same one; longer than the documented most is none.
        tokens = encoding.token_byte_values()
        assert max(map(len, tokens)) == _ranks.TOKEN_BYTES_MAX
        compared = 0
        for raw in tokens:
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
            assert tokenizer.encode(text) == encoding.encode_ordinary(text)
            compared += 1
        assert compared > 95_000


class TestCountingTexts:
    @pytest.mark.parametrize("name", SCRIPTS)
    def test_agrees_with_tiktoken_in_every_script(self, name: str) -> None:
        @settings(max_examples=30, deadline=None, database=None)
        @given(text=script(name))
        def holds(text: str) -> None:
            for ranks in RANKS:
                exact = reference.tokens(text, ranks)
                assert _ranks.count(text, ranks) == exact
                assert _ranks.utf8_bytes(text) >= exact

        holds()

    @settings(max_examples=600, deadline=None)
    @given(text=anything())
    def test_is_exact_with_ranks_and_bounds_without(self, text: str) -> None:
        exact = {ranks: reference.tokens(text, ranks) for ranks in RANKS}
        for ranks in RANKS:
            assert estimate.count_text(text, MODEL[ranks]) == exact[ranks]
        with _NoRanks():
            for ranks in RANKS:
                assert estimate.count_text(text, MODEL[ranks]) == _ranks.utf8_bytes(text) >= exact[ranks]
        assert estimate.count_text(text, "somebody-elses-9b") >= max(exact.values())

    @settings(max_examples=300, deadline=None)
    @given(text=anything(), limit=st.integers(-1, 400))
    def test_stops_at_a_limit_exactly_where_it_is_exceeded(self, text: str, limit: int) -> None:
        for ranks in RANKS:
            exact = reference.tokens(text, ranks)
            assert _ranks.count_until(text, ranks, limit) == (exact if exact <= limit else None)

    @settings(max_examples=300, deadline=None)
    @given(text=anything())
    def test_is_the_measured_multiple_for_claude(self, text: str) -> None:
        counted = reference.tokens(text, "cl100k_base")
        messages = [{"role": "user", "content": text}]
        for model, percent in (("claude-haiku-4-5", 135), ("claude-opus-4-7", 185)):
            most = -(-counted * percent // 100)
            assert estimate.count_text(text, model) == most
            assert estimate.bound_anthropic(messages, model) == most + 12

    @settings(max_examples=300, deadline=None)
    @given(text=anything())
    def test_counts_bytes_of_what_a_normalising_tokenizer_reads(self, text: str) -> None:
        read = unicodedata.normalize("NFKC", text)
        sizes = [len(each.encode("utf-8", "surrogatepass")) for each in (text, read)]
        assert estimate.count_text(text, "somebody-elses-9b") == max(sizes)

    def test_knows_what_a_ligature_becomes(self) -> None:
        # One sign of three bytes is eighteen letters to a tokenizer that normalises.
        assert estimate.count_text("ﷺ", "somebody-elses-9b") >= 18


class TestCountingLongTexts:
    """Slices of 96 characters instead of 65,536, so that every text is cut many times."""

    @pytest.fixture(autouse=True)
    def _short_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_ranks, "SLICE_CHARS", 96)
        monkeypatch.setattr(_ranks, "SEARCH_CHARS", 24)

    @staticmethod
    def _text(rng: random.Random) -> str:
        blocks = [SCRIPTS[rng.choice(list(SCRIPTS))] for _ in range(rng.choice((1, 1, 2, 3)))]
        signs = [chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.choice((1, 2, 3, 5, 40)))]
        signs += rng.choice(("", "", "0123456789", " \n", "٠١٢٣٤٥٦٧٨٩", "\ud83d\udc00\udfff"))
        if rng.random() < 0.3:
            unit = "".join(rng.choice(signs) for _ in range(rng.randint(1, 7)))
            return rng.choice(("", "x", "xy")) + unit * (600 // len(unit))
        return "".join(rng.choice(signs) for _ in range(600))

    def test_is_a_bound_for_whatever_is_cut_in_two(self) -> None:
        rng = random.Random(5)
        for _ in range(2_500):
            text = self._text(rng)
            for ranks in RANKS:
                exact, bound = reference.tokens(text, ranks), _ranks.count(text, ranks)
                # A slice may end some signs early, so that there may be a cut more.
                assert exact <= bound <= exact + (len(text) // 94 + 1) * (_ranks.CUT_TOKENS + 2), ascii(text)
                assert _ranks.count_until(text, ranks, bound) == bound
                assert _ranks.count_until(text, ranks, exact - 1) is None

    def test_keeps_digits_in_their_threes(self) -> None:
        # Arabic digits of two bytes are not one token for three: grouped otherwise they are far fewer.
        for before in ("", "x", "xy", "x y "):
            for unit in ("٣٧٩", "\uff11\uff12\uff13", "०१२", "⁴5⁶"):
                text = before + unit * 400
                for ranks in RANKS:
                    assert _ranks.count(text, ranks) >= reference.tokens(text, ranks)

    def test_is_exact_where_words_meet(self) -> None:
        rng = random.Random(6)
        words = ("the", "budget", "isn't", "spent", "YET", "camelCase", "a")
        for _ in range(200):
            text = " ".join(rng.choice(words) for _ in range(150))
            for ranks in RANKS:
                assert _ranks.count(text, ranks) == reference.tokens(text, ranks)


class TestCountingAPastedDocument:
    @pytest.mark.parametrize(
        "unit", ["All human beings are born free. ", "漢字かな交じり文。", "aGVsbG8", "7 "]
    )
    def test_agrees_with_tiktoken_within_what_cuts_may_hide(self, unit: str) -> None:
        text = unit * (400_000 // len(unit))
        cuts = len(text) // (_ranks.SLICE_CHARS - 3)
        for ranks in RANKS:
            exact, bound = reference.tokens(text, ranks), _ranks.count(text, ranks)
            assert exact <= bound <= exact + cuts * (_ranks.CUT_TOKENS + 2)

    def test_stops_early(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []
        counted = _ranks._count

        def spy(tokenizer: Any, text: str, limit: int | None) -> int | None:
            seen.append(len(text))
            return counted(tokenizer, text, limit)

        monkeypatch.setattr(_ranks, "_count", spy)
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 1_200_000}]}
        found = estimate.openai_chat(body, limit=100_000)
        assert found.exceeds_limit
        assert sum(seen) < 1_000_000
        seen.clear()
        assert estimate.openai_chat(body, limit=1_000).exceeds_limit
        assert seen == []
