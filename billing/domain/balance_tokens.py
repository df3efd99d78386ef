"""Tokens by which a tenant's customer may see its own balance: signed, for one customer, for minutes.

Form: `nbb1.<key id>.<base64url of the claims>.<base64url of HMAC-SHA256 over all before>`. Nothing is stored: what a
token allows stands in it. Its keys are made from those that sign authorizations, so that neither passes for the other.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

PREFIX: Final = "nbb1"
TOKEN_CHARS_MAX: Final = 4_096
TTL_MIN: Final = timedelta(minutes=1)
TTL_DEFAULT: Final = timedelta(minutes=15)
TTL_MAX: Final = timedelta(hours=1)
ORIGINS_MAX: Final = 5
ORIGIN_CHARS_MAX: Final = 200
NOT_OURS: Final = "no balance token: it was altered, cut off, or made elsewhere"
"""One text for every cause, so that an answer tells a forger nothing."""

_DERIVED_FOR: Final = b"noburn: balance tokens"
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")


class Shown(StrEnum):
    """What a token may show."""

    WALLET = "wallet"
    BUDGETS = "budgets"


class BadToken(ValueError):
    """The text is not a balance token that this installation signed."""


class BadOrigin(ValueError):
    """The text is no origin that a page may be framed by."""


class Expired(Exception):
    """The token was ours and its time is over. `claims` still say where its page may be framed."""

    def __init__(self, claims: Claims) -> None:
        super().__init__("the balance token expired")
        self.claims = claims


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What a token says: whose balance, what of it, until when, and which sites may frame it."""

    tenant_id: UUID
    customer_id: UUID
    shown: frozenset[Shown]
    origins: tuple[str, ...]
    expires_at: datetime


class _Wire(msgspec.Struct, frozen=True, array_like=True):
    tenant_id: UUID
    customer_id: UUID
    shown: tuple[str, ...]
    origins: tuple[str, ...]
    expires_s: int


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode = msgspec.msgpack.Decoder(_Wire).decode


def read_origin(text: str) -> str:
    """Returns an origin as browsers spell it: `https://app.example.com`, with a port if it is not the usual one.

    Plain http passes for this machine alone. Raises BadOrigin.
    """
    if len(text) > ORIGIN_CHARS_MAX:
        raise BadOrigin(f"must be at most {ORIGIN_CHARS_MAX} characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise BadOrigin("must be an origin such as https://app.example.com") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    spelled = f"[{host}]" if ":" in host else host
    if (
        scheme not in ("https", "http")
        or not _HOST.fullmatch(spelled)
        or parts.path not in ("", "/")
        or "@" in parts.netloc
        or "?" in text
        or "#" in text
        or not text.isascii()
    ):
        raise BadOrigin("must be an origin such as https://app.example.com, without a path")
    if scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        raise BadOrigin("must be https; plain http is for localhost alone")
    usual = {"https": 443, "http": 80}[scheme]
    return f"{scheme}://{spelled}" + (f":{port}" if port not in (None, usual) else "")


class BalanceTokens:
    """Signs and reads tokens with the installation's signing keys. New ones are signed with `kid`; all keys verify."""

    def __init__(self, *, keys: Mapping[str, bytes], kid: str) -> None:
        if kid not in keys:
            raise ValueError(f"signing key {kid!r} is not among the keys")
        self._keys = {name: hmac.digest(key, _DERIVED_FOR, "sha256") for name, key in keys.items()}
        self._kid = kid

    def sign(self, claims: Claims) -> str:
        """The token that says this; whole seconds, since it is for minutes."""
        body = _encode(
            _Wire(
                claims.tenant_id,
                claims.customer_id,
                tuple(sorted(claims.shown)),
                claims.origins,
                int(claims.expires_at.timestamp()),
            )
        )
        text = f"{PREFIX}.{self._kid}.{_letters(body)}"
        return f"{text}.{_letters(self._mac(self._kid, text))}"

    def read(self, token: str, *, now: datetime) -> Claims:
        """Returns what a token says. Raises BadToken, and Expired for one of ours whose time is over."""
        parts = token.split(".") if len(token) <= TOKEN_CHARS_MAX and token.isascii() else []
        if len(parts) != 4 or parts[0] != PREFIX or parts[1] not in self._keys:
            raise BadToken(NOT_OURS)
        # Compared as text: letters that decode to the same bytes are not the same token.
        wanted = _letters(self._mac(parts[1], token[: -len(parts[3]) - 1]))
        if not hmac.compare_digest(parts[3], wanted):
            raise BadToken(NOT_OURS)
        try:
            told = _decode(urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4)))
        except (binascii.Error, ValueError) as error:
            raise BadToken(NOT_OURS) from error
        claims = Claims(
            tenant_id=told.tenant_id,
            customer_id=told.customer_id,
            # What a newer release may show, an older one leaves out.
            shown=frozenset(Shown(word) for word in told.shown if word in _SHOWN),
            origins=told.origins,
            expires_at=datetime.fromtimestamp(told.expires_s, UTC),
        )
        if claims.expires_at <= now:
            raise Expired(claims)
        return claims

    def _mac(self, kid: str, text: str) -> bytes:
        return hmac.digest(self._keys[kid], text.encode(), "sha256")


_SHOWN: Final = frozenset(shown.value for shown in Shown)


def _letters(body: bytes) -> str:
    return urlsafe_b64encode(body).rstrip(b"=").decode()


def origin_errors(origins: Sequence[str]) -> dict[int, str]:
    """What is wrong with each of some origins, by its place."""
    errors: dict[int, str] = {}
    for number, text in enumerate(origins):
        try:
            read_origin(text)
        except BadOrigin as bad:
            errors[number] = str(bad)
    return errors
