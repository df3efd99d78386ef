from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.domain.api_keys import LENGTH, BadKey, digest, generate, parse, shown

PEPPER = b"p" * 32


def a_key(seed: int = 1) -> str:
    return generate(random.Random(seed))


class TestGenerate:
    def test_makes_a_prefix_32_characters_and_a_checksum(self) -> None:
        assert re.fullmatch(r"nb_live_[0-9A-Za-z]{38}", a_key())
        assert len(a_key()) == LENGTH == 46

    def test_makes_another_key_each_time(self) -> None:
        rng = random.SystemRandom()
        assert len({generate(rng) for _ in range(100)}) == 100


class TestParse:
    @given(st.integers())
    def test_accepts_what_generate_makes(self, seed: int) -> None:
        assert parse(a_key(seed)) == a_key(seed)

    @given(st.integers(min_value=8, max_value=LENGTH - 1), st.sampled_from("0aZ9"))
    def test_refuses_every_single_misspelling(self, place: int, letter: str) -> None:
        key = a_key()
        other = key[:place] + letter + key[place + 1 :]
        if other == key:
            return
        with pytest.raises(BadKey, match="misspelled"):
            parse(other)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nb_live_",
            "nb_test_" + a_key()[8:],
            a_key()[:-1],
            a_key() + "0",
            " " + a_key()[:-1],
            "é" * 46,
            "\ud800" * 46,
        ],
    )
    def test_refuses_what_is_no_key(self, text: str) -> None:
        with pytest.raises(BadKey):
            parse(text)

    def test_refuses_two_letters_swapped(self) -> None:
        key = a_key()
        with pytest.raises(BadKey, match="misspelled"):
            parse(key[:10] + key[11] + key[10] + key[12:])


class TestDigest:
    def test_depends_on_key_and_pepper(self) -> None:
        assert len(digest(PEPPER, a_key())) == 32
        assert digest(PEPPER, a_key()) == digest(PEPPER, a_key())
        assert digest(PEPPER, a_key()) != digest(PEPPER, a_key(2))
        assert digest(PEPPER, a_key()) != digest(b"q" * 32, a_key())

    def test_refuses_letters_that_no_key_has(self) -> None:
        with pytest.raises(BadKey):
            digest(PEPPER, "nb_live_é")


class TestShown:
    def test_tells_four_letters_of_each_end(self) -> None:
        key = a_key()
        assert shown(key) == (key[:12], key[-4:])
