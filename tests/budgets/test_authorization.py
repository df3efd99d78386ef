"""The signed authorization: it tells what was signed, and nothing that was not."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.domain.authorization import (
    NOT_OURS,
    TOKEN_CHARS_MAX,
    HeldCounter,
    Hold,
    HoldBody,
    InvalidAuthorization,
    Keyring,
    encode_body,
    hold_from,
)

KEYS = {"k1": b"first-secret-first-secret-first-", "k2": b"second-secret-second-secret-seco"}
RING = Keyring(keys=KEYS, kid="k2")
BODY = HoldBody(
    hold_id=UUID(int=1),
    tenant_id=UUID(int=2),
    key_id=UUID(int=3),
    epoch_id=UUID(int=4),
    provider="openai",
    model="gpt-4o-mini",
    price_id="7",
    cost_nano=480_000,
    input_tokens=1200,
    max_output_tokens=500,
    n=1,
    project="web",
    customer="acme",
    user="u1",
    run="",
    plan="free",
    tags={"feature": "chat"},
    counters=(
        HeldCounter(UUID(int=5), "usd", 480_000, False, False),
        HeldCounter(UUID(int=6), "requests", 1, True, True),
    ),
)


def sign(ring: Keyring = RING, **changes: Any) -> str:
    given_: dict[str, Any] = {
        "body": encode_body(BODY),
        "placed_ms": 10,
        "expires_ms": 20,
        "incarnations": (1, 0),
    }
    return ring.sign(**(given_ | changes))


class TestKeyring:
    def test_reads_back_what_it_signed(self) -> None:
        assert RING.verify(sign()) == Hold(BODY, 10, 20, (1, 0))

    def test_signs_the_same_text_for_the_same_hold(self) -> None:
        assert sign() == sign()
        assert sign().startswith("nba1.k2.")

    def test_still_reads_what_an_older_key_signed(self) -> None:
        older = sign(Keyring(keys=KEYS, kid="k1"))
        assert RING.verify(older).body == BODY

    def test_refuses_a_key_that_it_does_not_have(self) -> None:
        alone = Keyring(keys={"k1": KEYS["k1"]}, kid="k1")
        with pytest.raises(InvalidAuthorization):
            alone.verify(sign())

    def test_refuses_one_key_s_signature_under_another_s_name(self) -> None:
        with pytest.raises(InvalidAuthorization):
            RING.verify(sign().replace(".k2.", ".k1.", 1))

    def test_refuses_to_sign_with_a_key_that_it_does_not_have(self) -> None:
        with pytest.raises(ValueError, match="'k9'"):
            Keyring(keys=KEYS, kid="k9")

    def test_refuses_a_change_anywhere(self) -> None:
        token = sign()
        for at in range(len(token)):
            for letter in "AB":
                changed = token[:at] + letter + token[at + 1 :]
                if changed == token or _same_bytes(changed, token):
                    continue
                with pytest.raises(InvalidAuthorization):
                    RING.verify(changed)

    def test_refuses_a_larger_amount_under_the_old_signature(self) -> None:
        head, kid, _, signature = sign().split(".")
        other = sign(body=encode_body(msgspec.structs.replace(BODY, cost_nano=1))).split(".")[2]
        with pytest.raises(InvalidAuthorization):
            RING.verify(".".join([head, kid, other, signature]))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ".",
            "...",
            "nba1.k2..",
            "nba2." + sign()[5:],
            sign() + ".",
            sign()[:-1],
            "x" * (TOKEN_CHARS_MAX + 1),
            "nba1.k2.ü.ü",
        ],
    )
    def test_refuses_what_is_none(self, text: str) -> None:
        with pytest.raises(InvalidAuthorization):
            RING.verify(text)

    @given(st.text(max_size=200))
    def test_refuses_any_text_without_failing(self, text: str) -> None:
        with pytest.raises(InvalidAuthorization):
            RING.verify(text)

    def test_says_the_same_of_every_forgery(self) -> None:
        texts = set()
        for text in ("nonsense", sign()[:-6] + "AAAAAA", sign().replace(".k2.", ".k7.", 1)):
            with pytest.raises(InvalidAuthorization) as refused:
                RING.verify(text)
            texts.add(str(refused.value))
        assert len(texts) == 1


class TestHoldFromAScript:
    @pytest.mark.parametrize(("text", "numbers"), [(b"1,2,30", (1, 2, 30)), ("", ()), (b"", ()), ("0", (0,))])
    def test_reads_its_incarnations(self, text: str | bytes, numbers: tuple[int, ...]) -> None:
        hold = hold_from(body=encode_body(BODY), placed_ms=1, expires_ms=2, incarnations=text)
        assert (hold.body, hold.incarnations) == (BODY, numbers)


class TestLargestAuthorization:
    def test_fits_the_longest_token(self) -> None:
        counters = tuple(HeldCounter(UUID(int=n), "requests", 2**53, True, False) for n in range(16))
        long = "👩" * 200
        body = msgspec.structs.replace(
            BODY,
            counters=counters,
            **dict.fromkeys(("provider", "model", "project", "customer", "user", "run", "plan"), long),
            tags={"👩" * 63 + str(n): long for n in range(10)},
        )
        token = sign(body=encode_body(body), incarnations=tuple(range(16)))
        assert RING.verify(token).body == body


def _same_bytes(one: str, other: str) -> bool:
    """Whether two tokens differ in base64's unused bits alone, which are no part of what was signed."""

    def parts(token: str) -> list[bytes]:
        return [urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in token.split(".")[3:]]

    try:
        return one.rpartition(".")[0] == other.rpartition(".")[0] and parts(one) == parts(other)
    except ValueError:
        return False


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


class TestMutants:
    """A text that differs anywhere from one that was signed is none."""

    def refused(self, token: str) -> bool:
        with pytest.raises(InvalidAuthorization) as error:
            RING.verify(token)
        return str(error.value) == NOT_OURS

    def test_of_any_letter_are_refused(self) -> None:
        token = sign()
        for at, letter in enumerate(token):
            for other in {LETTERS[(LETTERS.index(letter) + step) % len(LETTERS)] for step in (1, 2, 31)}:
                assert self.refused(token[:at] + other + token[at + 1 :]), (at, other)

    def test_of_the_last_letter_are_refused_though_they_decode_alike(self) -> None:
        token = sign()
        alike = [
            other
            for other in LETTERS[:-1]
            if other != token[-1]
            and urlsafe_b64decode(token.split(".")[3][:-1] + other + "=")
            == urlsafe_b64decode(token.split(".")[3] + "=")
        ]
        assert len(alike) == 3
        assert all(self.refused(token[:-1] + other) for other in LETTERS if other != token[-1])

    def test_that_are_cut_off_or_prolonged_are_refused(self) -> None:
        token = sign()
        assert all(self.refused(token[:length]) for length in range(len(token)))
        more = ("=", "A", ".", " ", "\n", "\x00", ".AAAA", token)
        assert all(self.refused(token + text) and self.refused(text + token) for text in more)

    def test_under_another_prefix_or_key_id_are_refused(self) -> None:
        _, _, envelope, signature = sign().split(".")
        heads = (
            "nbb1.k2",
            "NBA1.k2",
            "nba2.k2",
            "nba1.k1",
            "nba1.k3",
            "nba1.",
            "nba1.K2",
            "none.k2",
            "k2.nba1",
        )
        assert all(self.refused(f"{head}.{envelope}.{signature}") for head in heads)
        # What an unsigned text would look like to a reader that believes it.
        assert all(self.refused(f"nba1.k2.{envelope}.{empty}") for empty in ("", "=", "AA", "A" * 43))

    def test_with_parts_of_two_genuine_ones_are_refused(self) -> None:
        one, other = sign().split("."), sign(placed_ms=11).split(".")
        assert self.refused(".".join([*one[:3], other[3]]))
        assert self.refused(".".join([*other[:3], one[3]]))
