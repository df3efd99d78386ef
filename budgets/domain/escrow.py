"""The pure rules of the escrow: what fits, how much is granted, and which resolution may follow which.

Source: docs/escrow.md. The simulator runs these functions; `preflight.lua` and the SQL functions say the same
in their own language, so a change here is a change there, in one commit. Amounts are integers in a budget's
own unit (nano-USD, tokens, requests). Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

AMOUNT_MAX: Final = 2**53
"""Largest amount: Lua numbers are doubles, exact up to here."""

MAX_HOLD_LIFE_SECONDS: Final = 15 * 60
"""Longest life of a hold from placing, extensions included."""

EPOCH_VALIDITY_SECONDS: Final = 60
"""How far ahead of PostgreSQL's clock an epoch may place holds."""

GRACE_SECONDS: Final = 60
"""Largest difference between the clocks of PostgreSQL and Redis that the escrow absorbs."""

ENDS_EARLY_SECONDS: Final = 2
"""So long before its instant credit that ends is granted no more: what Redis asks at the instant then finds it ended."""

LEASE_DRAW_SECONDS: Final = 60
"""So long after placing calls may be drawn from a lease, if no window of its counters ends before."""

SHARDS: Final = 64
"""Virtual shards; fixed at install, because it decides in which slot a tenant's keys live."""

RECENT_MS: Final = 5_000
"""A chunk that followed the previous one within this time doubles it."""


class Verdict(StrEnum):
    """What one counter says about one call."""

    FITS = "fits"
    ASK = "ask"
    BUSY = "busy"
    EXCEEDED = "exceeded"


PRECEDENCE: Final = (Verdict.EXCEEDED, Verdict.ASK, Verdict.BUSY, Verdict.FITS)
"""Over all counters of a call the first of these that any counter says applies."""


class HoldState(StrEnum):
    """The life of a hold. `placed` is stored in Redis alone, the rest in `hold_resolutions`.

    `leased` is a lease that calls were drawn from: as open as a placed one, of what is left of it.
    """

    PLACED = "placed"
    LEASED = "leased"
    SETTLED = "settled"
    VOIDED = "voided"
    PRESUMED = "presumed"


class Step(StrEnum):
    """What a resolution does to a hold."""

    FIRST = "first"
    LATER = "later"
    REPLAY = "replay"
    CONFLICT = "conflict"


_S = HoldState
TRANSITIONS: Final[dict[tuple[HoldState, HoldState], Step]] = {
    (_S.PLACED, _S.SETTLED): Step.FIRST,
    (_S.PLACED, _S.VOIDED): Step.FIRST,
    (_S.PLACED, _S.PRESUMED): Step.FIRST,
    (_S.LEASED, _S.VOIDED): Step.FIRST,
    (_S.LEASED, _S.PRESUMED): Step.FIRST,
    # A lease is never settled itself: its draws are.
    (_S.LEASED, _S.SETTLED): Step.CONFLICT,
    (_S.PRESUMED, _S.SETTLED): Step.LATER,
    (_S.PRESUMED, _S.VOIDED): Step.LATER,
    (_S.PRESUMED, _S.PRESUMED): Step.REPLAY,
    # Accepted and flagged after_void: the provider did bill, and what was billed is recorded.
    (_S.VOIDED, _S.SETTLED): Step.LATER,
    (_S.VOIDED, _S.VOIDED): Step.REPLAY,
    (_S.VOIDED, _S.PRESUMED): Step.REPLAY,
    (_S.SETTLED, _S.VOIDED): Step.CONFLICT,
    (_S.SETTLED, _S.PRESUMED): Step.REPLAY,
}
"""Every pair but settled -> settled, which depends on the usage: see `transition`."""


def transition(state: HoldState, wanted: HoldState, *, same_usage: bool) -> Step:
    """Say what resolving a hold in `state` as `wanted` does.

    `same_usage` matters for a second settlement alone: the same usage is a replay, another one a conflict.
    """
    if state is _S.SETTLED and wanted is _S.SETTLED:
        return Step.REPLAY if same_usage else Step.CONFLICT
    return TRANSITIONS[state, wanted]


def reratable(state: HoldState, *, revision: int, seen: int) -> bool:
    """Say whether a call may get another cost: it is settled, and nothing happened to it since it was seen."""
    return state is HoldState.SETTLED and revision == seen


def verdict(*, chunk: int, used: int, held: int, parent_free: int, need: int) -> Verdict:
    """Say whether `need` fits one counter as Redis sees it.

    A negative `parent_free` (an overrun or a cut) bites at once; a positive one is worth a question to
    PostgreSQL, but only the chunk itself is ever spent from.
    """
    free = chunk - used
    if need <= free + min(0, parent_free):
        return Verdict.FITS
    if need <= free + parent_free:
        return Verdict.ASK
    if need <= free + parent_free + held:
        return Verdict.BUSY
    return Verdict.EXCEEDED


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine the verdicts of a call's counters: all or none, the worst reason first."""
    said = set(verdicts)
    return next((one for one in PRECEDENCE if one in said), Verdict.FITS)


def parent_free(*, limit: int, spent: int, authority: int) -> int:
    """What PostgreSQL could still grant, signed; `authority` is summed over all grant rows of the counter."""
    return limit - spent - authority


def headroom(*, limit: int, spent: int, authority: int) -> int:
    """What PostgreSQL may grant now: never negative."""
    return max(0, limit - spent - authority)


def chunk_size(*, limit: int, room: int, want: int, previous_chunk: int, previous_age_ms: int) -> int:
    """How much to grant: an eighth of the limit, what is wanted, or twice a recent chunk, within `room`."""
    if want <= 0:
        return 0
    burst = 2 * previous_chunk if previous_age_ms < RECENT_MS else 0
    return min(room, max(limit // 8, want, burst))


def message_amounts(*, limit: int, spent: int, authority: int, granted: int) -> tuple[int, int]:
    """Return `(total, parent_free)` of a load message. Less than `granted` as total is a shrink.

    `parent_free` is what will be left above once the shrink counts, so that it does not bite twice. Redis
    stores `chunk = max(used, total)` and `parent_free - (chunk - total)`.
    """
    free = limit - spent - authority
    total = max(0, granted + min(0, free))
    return total, free + granted - total


def first_posting(*, actual: int, held: int) -> tuple[int, int]:
    """Return `(spent, consumed)` of a first resolution in the live branch.

    Spent is the whole actual; what it consumes of the authority never exceeds the hold.
    """
    return actual, min(actual, held)
