"""Leases: how large one may be, what a draw of one is, and why one is given back; docs/escrow.md, section 8."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from budgets.domain.authorization import HeldCounter, Hold
from budgets.domain.demands import Bound
from budgets.domain.escrow import LEASE_DRAW_SECONDS
from budgets.domain.policy import Metric

SHARE: Final = 4
"""A lease is at most this part of what a counter has left, so that others find room beside it."""

REPORT_SECONDS: Final = 5
"""A holder reports at least so often, and is told there to give its lease back."""


class Recall(StrEnum):
    """Why a holder is to draw no more."""

    POLICY = "policy"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    PLAN_LIMIT = "plan_limit"
    EPOCH = "epoch"
    LIMIT = "limit"
    LOW = "low"
    ENDED = "ended"


def size(*, wanted: Bound, least: Bound, rooms: Iterable[tuple[Metric, int]]) -> Bound | None:
    """What a lease may be of what is wanted: at most a share of each counter's room; None if a call would not fit in.

    `rooms` are the metrics of the counters that may refuse, with what each has left.
    """
    most = {Metric.USD: wanted.cost_nano, Metric.TOKENS: wanted.tokens, Metric.REQUESTS: wanted.requests}
    for metric, room in rooms:
        most[metric] = min(most[metric], max(0, room) // SHARE)
    found = Bound(most[Metric.USD], most[Metric.TOKENS], most[Metric.REQUESTS])
    enough = found.cost_nano >= least.cost_nano and found.tokens >= least.tokens
    return found if enough and found.requests >= least.requests else None


def draw_until_ms(hold: Hold) -> int:
    """When the last draw of a lease may begin, by Redis's clock."""
    terms = hold.body.lease
    latest = hold.placed_ms + LEASE_DRAW_SECONDS * 1000
    return min(latest, terms.ends_ms) if terms is not None and terms.ends_ms else latest


def settle_until(hold: Hold) -> datetime:
    """When what nobody reported is presumed spent."""
    return datetime.fromtimestamp(hold.expires_ms / 1000, UTC)


def draw_of(lease: Hold, *, nonce: str, sequence: int, bound: Bound, input_tokens: int, cap: int) -> Hold:
    """One draw as a hold of its own: the lease's names, counters and moment, and an id of (lease, nonce, sequence)."""
    body = lease.body
    text = f"{body.hold_id.hex}|{nonce}|{sequence}"
    drawn = UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest())
    counters = tuple(
        HeldCounter(c.counter_id, c.metric, bound.of(Metric(c.metric)), c.released_on_expiry, c.rate)
        for c in body.counters
    )
    return Hold(
        msgspec.structs.replace(
            body,
            hold_id=drawn,
            cost_nano=bound.cost_nano,
            input_tokens=input_tokens,
            max_output_tokens=cap,
            n=1,
            counters=counters,
            lease=None,
        ),
        lease.placed_ms,
        lease.expires_ms,
        lease.incarnations,
    )
