"""Balance tokens: what is signed is what is read, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.balance_tokens import (
    TOKEN_CHARS_MAX,
    BadOrigin,
    BadToken,
    BalanceTokens,
    Claims,
    Expired,
    Shown,
    read_origin,
)
from budgets.domain.authorization import InvalidAuthorization, Keyring

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEYS = {"k1": bytes(range(32)), "k2": bytes(range(32, 64))}
TOKENS = BalanceTokens(keys=KEYS, kid="k2")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def claims(**fields: object) -> Claims:
    given_: dict[str, object] = {
        "tenant_id": UUID(int=1),
        "customer_id": UUID(int=2),
        "shown": frozenset(Shown),
        "origins": ("https://app.example.com",),
        "expires_at": NOW + timedelta(minutes=15),
    }
    return Claims(**{**given_, **fields})  # type: ignore[arg-type]


class TestBalanceTokens:
    def test_read_what_they_signed(self) -> None:
        assert TOKENS.read(TOKENS.sign(claims()), now=NOW) == claims()

    def test_read_what_an_earlier_key_signed_and_not_what_a_strange_one_did(self) -> None:
        earlier = BalanceTokens(keys={"k1": KEYS["k1"]}, kid="k1").sign(claims())
        assert TOKENS.read(earlier, now=NOW) == claims()
        strange = BalanceTokens(keys={"k1": bytes(32)}, kid="k1").sign(claims())
        with pytest.raises(BadToken):
            TOKENS.read(strange, now=NOW)

    def test_end_at_their_instant_and_still_say_who_may_frame_them(self) -> None:
        token, ends_at = TOKENS.sign(claims()), claims().expires_at
        assert TOKENS.read(token, now=ends_at - timedelta(microseconds=1))
        with pytest.raises(Expired) as ended:
            TOKENS.read(token, now=ends_at)
        assert ended.value.claims.origins == ("https://app.example.com",)

    @given(st.data())
    def test_no_other_letter_passes_anywhere(self, data: st.DataObject) -> None:
        token = TOKENS.sign(claims())
        place = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.sampled_from([other for other in LETTERS if other != token[place]]))
        with pytest.raises(BadToken):
            TOKENS.read(token[:place] + letter + token[place + 1 :], now=NOW)

    @given(st.text(max_size=200))
    def test_no_text_that_nobody_signed_passes(self, text: str) -> None:
        for token in (text, f"nbb1.k2.{text}.{text}", TOKENS.sign(claims()) + text[:1] + "="):
            with pytest.raises(BadToken):
                TOKENS.read(token, now=NOW)

    def test_the_claims_of_one_do_not_pass_with_the_signature_of_another(self) -> None:
        one, other = (TOKENS.sign(claims(customer_id=UUID(int=n))).split(".") for n in (2, 3))
        with pytest.raises(BadToken):
            TOKENS.read(".".join([*one[:3], other[3]]), now=NOW)

    def test_are_no_authorizations_and_authorizations_are_none(self) -> None:
        ring = Keyring(keys=KEYS, kid="k2")
        token = TOKENS.sign(claims())
        for text in (token, token.replace("nbb1", "nba1", 1)):
            with pytest.raises(InvalidAuthorization):
                ring.verify(text)
        signed = ring.sign(body=b"", placed_ms=1, expires_ms=2, incarnations=())
        for text in (signed, signed.replace("nba1", "nbb1", 1)):
            with pytest.raises(BadToken):
                TOKENS.read(text, now=NOW)

    def test_bounds_what_it_reads(self) -> None:
        with pytest.raises(BadToken):
            TOKENS.read("nbb1.k2." + "A" * TOKEN_CHARS_MAX + ".A", now=NOW)


class TestReadOrigin:
    @pytest.mark.parametrize(
        ("text", "origin"),
        [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443/", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ],
    )
    def test_spells_an_origin_as_browsers_do(self, text: str, origin: str) -> None:
        assert read_origin(text) == origin

    @pytest.mark.parametrize(
        "text",
        [
            *("", "*", "https://*", "https://*.example.com", "app.example.com", "http://app.example.com"),
            *(
                "https://app.example.com/path",
                "https://a@b.example",
                "https://a.example?x",
                "https://a.example#x",
            ),
            *(
                "https://a.example; script-src *",
                "https://a.example https://b.example",
                "https://a.example:99999",
            ),
            *(
                "javascript:alert(1)",
                "https://ä.example",
                "https://" + "a" * 300,
                "https://a.example'",
                "null",
            ),
            *("https://a.example\r\nX: y", "https://[::1", "data:text/html,x"),
        ],
    )
    def test_takes_nothing_else_into_a_header(self, text: str) -> None:
        with pytest.raises(BadOrigin):
            read_origin(text)
