"""The chain of a tenant's audit log: each entry's hash covers the one before, and is signed.

    hash(n)      = SHA-256("noburn-audit-1" ‖ hash(n-1) ‖ content(n)),  hash(0) = 32 zero bytes
    signature(n) = HMAC-SHA-256(chain key, "link" ‖ hash(n))

`content` is the entry as JSON in one form only, with its tenant and its place in the chain, so an entry cannot be
changed, moved, or carried to another tenant without another hash. The chain key is derived from a signing key, and
signs nothing but chains: a signature of one is never an authorization.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

ROOT = bytes(32)
"""What the first entry of a tenant follows."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is chained of one audit entry."""

    tenant_id: UUID
    entry_id: UUID
    actor: str
    action: str
    object: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Point:
    """A place in a tenant's chain, and what the chain is there."""

    tenant_id: UUID
    sequence: int
    hash: bytes


def link_hash(*, previous: bytes, sequence: int, content: Content) -> bytes:
    """Returns the hash of an entry that follows `previous` as the `sequence`-th of its tenant, from 1 on."""
    return hashlib.sha256(b"noburn-audit-1" + previous + _canonical(sequence, content)).digest()


def sign_link(key: bytes, hash: bytes) -> bytes:
    """Signs one link."""
    return _sign(key, b"link" + hash)


def sign_checkpoint(key: bytes, point: Point, made_at: datetime) -> bytes:
    """Signs what a tenant's chain was at a time."""
    told = [point.tenant_id.hex, point.sequence, point.hash.hex(), _microseconds(made_at)]
    return _sign(key, b"checkpoint" + _json(told))


def is_signature(signature: bytes, expected: bytes) -> bool:
    """Compares two signatures in constant time."""
    return hmac.compare_digest(signature, expected)


def _canonical(sequence: int, content: Content) -> bytes:
    return _json(
        [
            content.tenant_id.hex,
            sequence,
            content.entry_id.hex,
            _microseconds(content.at),
            content.actor,
            content.action,
            content.object,
            _as_stored(content.before),
            _as_stored(content.after),
        ]
    )


def _as_stored(value: Any) -> Any:
    """What PostgreSQL gives back of a value in jsonb: whole numbers have one spelling there (1e3, 1000.0, 1000)."""
    if isinstance(value, Mapping):
        return {str(name): _as_stored(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_stored(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _microseconds(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _sign(key: bytes, message: bytes) -> bytes:
    chain_key = hmac.digest(key, b"noburn audit chain", "sha256")
    return hmac.digest(chain_key, message, "sha256")
