"""Explains by how much three sums of one period differ: what is owed, what was told, what Stripe counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from billing.domain.pushing import micro


class Why(StrEnum):
    """Kinds of difference. All but `unknown` say where the amount is."""

    NOT_YET_CLOSED = "not_yet_closed"
    """Owed for hours whose window is not in the outbox yet, or that came late since."""
    UNLINKED = "unlinked"
    """Owed by a customer that has no living subscription at Stripe."""
    PENDING = "pending"
    """In the outbox, not delivered yet."""
    FAILED = "failed"
    """Refused by Stripe, or reported as not counted; waits for a person."""
    UNCLEAR = "unclear"
    """Tried for a day without a clear answer; waits for a person."""
    LAG = "lag"
    """Delivered a short while ago: Stripe's summaries follow later."""
    CARRIED_OUT = "carried_out"
    """Owed here and carried into a later period, since this one's invoice was final."""
    CARRIED_IN = "carried_in"
    """Told here, owed for an earlier period."""
    AFTER_INVOICE = "after_invoice"
    """Counted by Stripe after the invoice was final: in no invoice, and carried."""
    UNKNOWN = "unknown"
    """Nothing explains it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """What is known of a period, in micro-USD but for `owed_nano`.

    Values of measurements by state; `carried_in` and `carried_out` whatever their state. `recent` was delivered so
    lately that summaries need not have it. `measured` is None where Stripe could not be asked.
    """

    owed_nano: int
    told: int
    carried_in: int
    carried_out: int
    pending: int
    failed: int
    unclear: int
    delivered: int
    recent: int
    measured: int | None
    linked: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """So much, and why."""

    kind: Why
    micro: int


@dataclass(frozen=True, slots=True)
class Explained:
    """All differences, none of them zero, and whether nothing is unknown, failed or unclear."""

    differences: tuple[Difference, ...]
    remainder_nano: int

    @property
    def unexplained_micro(self) -> int:
        """The sum that nothing explains."""
        return sum(d.micro for d in self.differences if d.kind is Why.UNKNOWN)

    @property
    def agrees(self) -> bool:
        """Whether all is well, or will be by itself."""
        return not any(d.kind in (Why.UNKNOWN, Why.FAILED, Why.UNCLEAR) for d in self.differences)


def explain(sums: Sums) -> Explained:
    """Explains, on the way from what is owed to what Stripe counted, every step by which they differ.

    owed = told as use + carried out + not told yet; told = delivered + pending + failed + unclear; and Stripe counts
    what was delivered, some time after. Rounding leaves less than one micro-USD, which is told in nano-USD.
    """
    owed = micro(sums.owed_nano)
    found: list[Difference] = []

    def note(kind: Why, value: int) -> None:
        if value:
            found.append(Difference(kind, value))

    untold = owed - sums.told
    if sums.closed:
        # What a closed period still owes is carried; what it told in vain is carried as well, and shows below.
        note(Why.CARRIED_OUT, untold if sums.linked else 0)
        note(Why.UNLINKED, 0 if sums.linked else untold)
    else:
        note(Why.NOT_YET_CLOSED if sums.linked else Why.UNLINKED, untold)
    note(Why.CARRIED_IN, -sums.carried_in)
    note(Why.PENDING, sums.pending)
    note(Why.FAILED, sums.failed)
    note(Why.UNCLEAR, sums.unclear)
    if sums.measured is not None:
        missing = sums.delivered - sums.measured
        if missing and 0 < missing <= sums.recent or sums.recent < 0 and sums.recent <= missing < 0:
            note(Why.LAG, missing)
        else:
            note(Why.UNKNOWN, missing)
    return Explained(tuple(found), sums.owed_nano - owed * 1000)
