"""Verifies what claims to come from Stripe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import stripe

TOLERANCE: Final = timedelta(minutes=5)
"""How old or how far ahead a signature may be; Stripe signs every attempt anew."""


class BadSignature(Exception):
    """Nobody with one of the secrets signed this, or not lately. The text may be shown."""


def verify(*, body: bytes, header: str, secrets: Sequence[str], now: datetime) -> None:
    """Makes sure that a body was signed with one of the secrets within TOLERANCE. Raises BadSignature."""
    at = _signed_at(header)
    if at is None or abs(now.timestamp() - at) > TOLERANCE.total_seconds():
        raise BadSignature("the signature has no time, or is older than five minutes")
    for secret in secrets:
        try:
            # The time was compared with ours above; the client would ask the system's clock.
            stripe.WebhookSignature.verify_header(body, header, secret, None)
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            continue
        return
    raise BadSignature("no secret of this endpoint made the signature")


def _signed_at(header: str) -> int | None:
    for part in header.split(",")[:10]:
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) < 12:
            return int(value)
    return None
