"""The signed authorization of a placed hold: everything a settlement needs, so that none ever depends on Redis.

Form: `nba1.<key id>.<base64url of the envelope>.<base64url of HMAC-SHA256 over all before>`. The algorithm
follows from the prefix and the key id, never from the token's contents. Keys stay in
the keyring for 400 days after their last use.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from uuid import UUID

import msgspec

from budgets.domain.charging import Ceiling

PREFIX = "nba1"
TOKEN_CHARS_MAX = 32_768
"""More than the longest names and tags that a call may carry make, in letters of four bytes."""

NOT_OURS = "no authorization of this tenant: it was altered, cut off, or made for somebody else"
"""One text for every cause, so that an answer tells a forger nothing."""


class InvalidAuthorization(ValueError):
    """The text is not an authorization that this installation signed."""


class HeldCounter(msgspec.Struct, frozen=True, array_like=True):
    """What a hold took from one counter, in the counter's own unit.

    `released_on_expiry` marks a soft budget; `rate` a window of a minute, which has no ledger.
    """

    counter_id: UUID
    metric: str
    amount: int
    released_on_expiry: bool
    rate: bool


class LeaseTerms(msgspec.Struct, frozen=True, array_like=True):
    """That a hold is a lease: the policy version that it was placed under, and when the first of its windows ends, in ms
    (0: never). `tokens` and `requests` are what it is for beside its USD, whether or not a budget counts them."""

    policy_version: int
    ends_ms: int
    tokens: int
    requests: int


class HoldBody(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a hold before Redis places it; stored with the hold, so that a sweep can presume it.

    `ceiling` is what the most that the customer is charged is reckoned by, for a hold on a wallet. Fields are only ever
    appended, with a default: an older gateway reads what a newer one placed.
    """

    hold_id: UUID
    tenant_id: UUID
    key_id: UUID
    epoch_id: UUID
    provider: str
    model: str
    price_id: str
    cost_nano: int
    input_tokens: int
    max_output_tokens: int
    n: int
    project: str
    customer: str
    user: str
    run: str
    plan: str
    tags: dict[str, str]
    counters: tuple[HeldCounter, ...]
    ceiling: Ceiling | None = None
    lease: LeaseTerms | None = None


class Hold(msgspec.Struct, frozen=True):
    """A placed hold. Times are Redis milliseconds since 1970; incarnations are in the order of the counters."""

    body: HoldBody
    placed_ms: int
    expires_ms: int
    incarnations: tuple[int, ...]


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    body: bytes
    placed_ms: int
    expires_ms: int
    incarnations: tuple[int, ...]


_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decode_body = msgspec.msgpack.Decoder(HoldBody).decode
_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode


def encode_body(body: HoldBody) -> bytes:
    """The bytes that Redis stores with the hold and that the envelope carries."""
    return _encode(body)


def hold_from(*, body: bytes, placed_ms: int, expires_ms: int, incarnations: str | bytes) -> Hold:
    """A hold as a script's reply tells it; `incarnations` is a comma-separated list."""
    return Hold(_decode_body(body), placed_ms, expires_ms, incarnations_of(incarnations))


def incarnations_of(text: str | bytes) -> tuple[int, ...]:
    """The incarnations that a script's reply lists, in the order of the counters."""
    listed = text.decode() if isinstance(text, bytes) else text
    return tuple(map(int, listed.split(","))) if listed else ()


class Keyring:
    """Signing keys by id. New authorizations are signed with `kid`; all keys verify."""

    def __init__(self, *, keys: Mapping[str, bytes], kid: str) -> None:
        if kid not in keys:
            raise ValueError(f"signing key {kid!r} is not among the keys")
        self._keys = {k: hmac.new(v, digestmod=hashlib.sha256) for k, v in keys.items()}
        self._kid = kid

    def sign(self, *, body: bytes, placed_ms: int, expires_ms: int, incarnations: tuple[int, ...]) -> str:
        """The authorization of a placed hold; deterministic, so a replay answers the same text."""
        envelope = _encode(_Envelope(body, placed_ms, expires_ms, incarnations))
        text = f"{PREFIX}.{self._kid}.{urlsafe_b64encode(envelope).rstrip(b'=').decode()}"
        return f"{text}.{self._signature(self._kid, text)}"

    def _signature(self, kid: str, text: str) -> str:
        mac = self._keys[kid].copy()
        mac.update(text.encode())
        return urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()

    def verify(self, token: str) -> Hold:
        """Reads an authorization. Raises InvalidAuthorization, with nothing in its text that helps to forge one."""
        parts = token.split(".") if len(token) <= TOKEN_CHARS_MAX and token.isascii() else []
        if len(parts) != 4 or parts[0] != PREFIX or parts[1] not in self._keys:
            raise InvalidAuthorization(NOT_OURS)
        # Letters are compared, and not what they decode to: two texts may decode to the same bytes.
        if not hmac.compare_digest(parts[3], self._signature(parts[1], token[: -len(parts[3]) - 1])):
            # The same words as for another tenant's: nobody learns whether a text is a genuine one.
            raise InvalidAuthorization(NOT_OURS)
        read = _decode_envelope(urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4)))
        return Hold(_decode_body(read.body), read.placed_ms, read.expires_ms, read.incarnations)
