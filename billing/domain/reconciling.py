"""Explains by how much three sums of one period differ: what is owed, what was told, what Stripe counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from billing.domain.pushing import micro


class Why(StrEnum):
    """Kinds of difference. All but `unknown` say where the amount is."""

    NOT_YET_CLOSED = "not_yet_closed"
    """Owed for hours whose window is not in the outbox yet, or that came late since."""
    NOT_YET_CARRIED = "not_yet_carried"
    """Owed by a period whose invoice is final, and to be carried into the present one."""
    WALLET = "wallet"
    """Paid by the customer's wallet, so owed to nobody at Stripe."""
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
    """Owed here, and told in a later period, since this one's invoice was final."""
    CARRIED_IN = "carried_in"
    """Told here, and owed by an earlier period."""
    AFTER_INVOICE = "after_invoice"
    """Counted by Stripe after the invoice was made: in no invoice, and therefore carried."""
    UNKNOWN = "unknown"
    """Nothing explains it."""


WAIT_FOR_A_PERSON = frozenset({Why.UNKNOWN, Why.FAILED, Why.UNCLEAR})


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """What is known of a period, in micro-USD but for `owed_nano` and the part of it that the wallet pays, `wallet_nano`.

    `pending`, `failed`, `unclear` and `delivered` are measurements told in this period, by state; `carried_in` of them
    are owed by earlier ones, and `carried_out` is told in later ones. What was delivered lately, which summaries need
    not have, adds up to `recent_up` above zero and `recent_down` below. `measured` is None where Stripe could not be
    asked, `invoiced` until the invoice is final.
    """

    owed_nano: int
    wallet_nano: int
    carried_in: int
    carried_out: int
    pending: int
    failed: int
    unclear: int
    delivered: int
    recent_up: int
    recent_down: int
    measured: int | None
    invoiced: int | None
    linked: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """So much, and why."""

    kind: Why
    micro: int


@dataclass(frozen=True, slots=True)
class Explained:
    """All differences, none of them zero; `remainder_nano` is what rounding leaves, less than a micro-USD."""

    differences: tuple[Difference, ...]
    remainder_nano: int

    @property
    def unexplained_micro(self) -> int:
        """The sum that nothing explains."""
        return sum(d.micro for d in self.differences if d.kind is Why.UNKNOWN)

    @property
    def agrees(self) -> bool:
        """Whether nothing waits for a person."""
        return not any(d.kind in WAIT_FOR_A_PERSON for d in self.differences)


def explain(sums: Sums) -> Explained:
    """Explains every step on the way from what is owed to what Stripe counted.

    An open period: owed + carried in = wallet + not yet closed + pending + failed + unclear + delivered. One whose
    invoice is final: owed + carried in = wallet + invoiced + carried out + not yet carried. And Stripe counts what was
    delivered.
    """
    whole = micro(sums.owed_nano)
    owed = micro(sums.owed_nano - sums.wallet_nano)
    found: list[Difference] = []

    def note(kind: Why, value: int) -> None:
        if value:
            found.append(Difference(kind, value))

    note(Why.WALLET, whole - owed)
    told = sums.pending + sums.failed + sums.unclear + sums.delivered
    if sums.invoiced is None:
        untold = owed + sums.carried_in - told
        note(Why.NOT_YET_CLOSED if sums.linked else Why.UNLINKED, untold)
    else:
        left = owed + sums.carried_in - sums.invoiced - sums.carried_out
        note(Why.CARRIED_OUT, sums.carried_out)
        note(Why.NOT_YET_CARRIED if sums.linked else Why.UNLINKED, left)
    note(Why.CARRIED_IN, -sums.carried_in)
    note(Why.PENDING, sums.pending)
    note(Why.FAILED, sums.failed)
    note(Why.UNCLEAR, sums.unclear)
    if sums.measured is not None:
        missing = sums.delivered - sums.measured
        note(Why.LAG if sums.recent_down <= missing <= sums.recent_up else Why.UNKNOWN, missing)
        if sums.invoiced is not None:
            note(Why.AFTER_INVOICE, sums.measured - sums.invoiced)
    return Explained(tuple(found), sums.owed_nano - whole * 1000)
