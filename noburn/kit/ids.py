"""Identifiers: time-ordered UUIDs inside, a prefix and 26 letters of Crockford base32 on the wire.

`key_01jd2c8vq6f5k9s0m3w7x4y1z2` and the UUID it carries are two spellings of one number, so nothing is stored
twice and a wire id tells a reader what it names. Letters are lower case; i, l, o and u do not occur.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final
from uuid import UUID

TENANT: Final = "ten"
PROJECT: Final = "prj"
MEMBER: Final = "mem"
CUSTOMER: Final = "cus"
API_KEY: Final = "key"
AUDIT_ENTRY: Final = "aud"
BUDGET: Final = "bud"
HOLD: Final = "hold"
DECISION: Final = "dec"
BUDGET_OVERRIDE: Final = "ovr"
BUDGET_INCREASE: Final = "inc"
PRICE_OVERRIDE: Final = "pov"
PRICE_PROPOSAL: Final = "prp"
RERATING: Final = "rrt"
RATE_CARD: Final = "rcd"
RATE_CARD_VERSION: Final = "rcv"
RATE_CARD_ASSIGNMENT: Final = "rca"
PRESUMED_APPROVAL: Final = "pap"
WEBHOOK_ENDPOINT: Final = "whe"
ALERT_EMAIL: Final = "eml"
ALERT: Final = "alr"
DELIVERY: Final = "dlv"
WALLET: Final = "wal"
CREDIT_GRANT: Final = "crg"
JOURNAL_POSTING: Final = "jrn"
TOP_UP: Final = "top"
STRIPE_ACCOUNT: Final = "sta"
STRIPE_LINK: Final = "lnk"
BILLING_PERIOD: Final = "per"
MEASUREMENT: Final = "msr"
INVOICE: Final = "inv"
CREDIT_NOTE: Final = "crn"
PLAN_REPORT: Final = "plr"
GUARD: Final = "grd"
POLICY: Final = "pol"
RUN: Final = "run"
PREFIXES: Final = frozenset(
    {
        TENANT,
        PROJECT,
        MEMBER,
        CUSTOMER,
        API_KEY,
        AUDIT_ENTRY,
        BUDGET,
        HOLD,
        DECISION,
        BUDGET_OVERRIDE,
        BUDGET_INCREASE,
        PRICE_OVERRIDE,
        PRICE_PROPOSAL,
        RERATING,
        RATE_CARD,
        RATE_CARD_VERSION,
        RATE_CARD_ASSIGNMENT,
        PRESUMED_APPROVAL,
        WEBHOOK_ENDPOINT,
        ALERT_EMAIL,
        ALERT,
        DELIVERY,
        WALLET,
        CREDIT_GRANT,
        JOURNAL_POSTING,
        TOP_UP,
        STRIPE_ACCOUNT,
        STRIPE_LINK,
        BILLING_PERIOD,
        MEASUREMENT,
        INVOICE,
        CREDIT_NOTE,
        PLAN_REPORT,
        GUARD,
        POLICY,
        RUN,
    }
)

BODY_LENGTH: Final = 26
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_INT_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuv"  # What int(text, 32) reads.
_FROM_WIRE: Final = str.maketrans(_ALPHABET, _INT_ALPHABET)
_LETTERS: Final = frozenset(_ALPHABET)
# Two letters at a time: half the steps of a loop over 26 letters.
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -1, -10))


class BadId(ValueError):
    """The text is not a wire id of the wanted kind."""


def new_uuid(now: datetime) -> UUID:
    """Makes a UUID of version 7: milliseconds of `now`, then 74 random bits. Source: RFC 9562, 5.7."""
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    milliseconds = int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF
    noise = int.from_bytes(os.urandom(10), "big")
    return UUID(
        int=milliseconds << 80
        | 0x7 << 76
        | (noise >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | noise & 0x3FFF_FFFF_FFFF_FFFF
    )


def encode(prefix: str, value: UUID) -> str:
    """Spells a UUID as `prefix_` and 26 letters."""
    number = value.int
    pairs = _PAIRS
    return f"{prefix}_" + "".join([pairs[number >> shift & 1023] for shift in _SHIFTS])


def decode(prefix: str, text: str) -> UUID:
    """Reads a wire id of this prefix. Raises BadId for another prefix, length or alphabet, or an overflow."""
    head, _, body = text.partition("_")
    if head != prefix:
        raise BadId(f"an id of this kind starts with {prefix}_")
    if len(body) != BODY_LENGTH or not _LETTERS.issuperset(body) or body[0] > "7":
        raise BadId(f"{prefix}_ is followed by {BODY_LENGTH} characters of 0-9 and a-z without i, l, o, u")
    return UUID(int=int(body.translate(_FROM_WIRE), 32))
