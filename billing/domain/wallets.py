"""Burning prepaid credit: in which order, for which calls, and the journal's lines for it. Pure.

Credit is burnt by priority (lower first), then the credit that ends sooner, then promotional before paid, then older
before newer. A call is paid for by credit that had not ended when the call was placed. What no credit covers is owed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from billing.domain.charging import Charge

PAID: Final = "paid"
CREDIT_ACCOUNTS: Final = {"paid": "paid_credit", "promotional": "promotional_credit"}
ENDED_ACCOUNTS: Final = {"paid": "refunds", "promotional": "promotion"}
"""Where credit goes that is voided: paid credit is owed back to the customer, a present to whoever made it."""

LAPSE: Final = timedelta(hours=1)
"""For how long credit that ended stays for calls of before: longer than a hold lives, and its sweep takes."""

NEVER: Final = datetime.max.replace(tzinfo=UTC)

Draw = tuple[UUID | None, int]
"""So much of one grant; None: owed."""


def share_of(charge: Charge, charged: int) -> int:
    """Returns what a wallet pays of a charge for calls of which it was charged so much, one by one.

    Never what a minimum or rounding add to the use: no call causes that, so no credit is held for it.
    """
    return max(0, min(charged, charge.use_nano, charge.total_nano))


@dataclass(kw_only=True, slots=True)
class Credit:
    """One grant as burning sees it: `amount` was given; `remaining` changes, and is never more."""

    id: UUID
    kind: str
    amount: int
    remaining: int
    priority: int
    expires_at: datetime | None
    voided_at: datetime | None
    created_at: datetime

    @property
    def account(self) -> str:
        """The journal's account for it."""
        return CREDIT_ACCOUNTS[self.kind]

    def rank(self) -> tuple[object, ...]:
        """Its place in the burn order; voided credit comes last, for calls that were in flight."""
        return (
            self.voided_at is not None,
            self.priority,
            self.expires_at or NEVER,
            self.kind == PAID,
            self.created_at,
            self.id,
        )

    def pays_for(self, placed_at: datetime) -> bool:
        """Whether a call that was placed then may be paid with it."""
        return self.expires_at is None or placed_at < self.expires_at

    def active(self, now: datetime) -> bool:
        """Whether new calls may be held on it."""
        return self.voided_at is None and self.pays_for(now)

    def lapses_at(self) -> datetime | None:
        """From when on what is left of it is nobody's."""
        ends = [at for at in (self.expires_at, self.voided_at) if at is not None]
        return min(ends) + LAPSE if ends else None


@dataclass(slots=True)
class Lines:
    """What a posting says, added up by account and grant: always nothing in total."""

    amounts: dict[tuple[str, UUID | None], int] = field(default_factory=dict)

    def move(self, amount: int, *, source: tuple[str, UUID | None], target: tuple[str, UUID | None]) -> None:
        """Takes an amount off one account and puts it on another."""
        self.amounts[source] = self.amounts.get(source, 0) - amount
        self.amounts[target] = self.amounts.get(target, 0) + amount

    def listed(self) -> list[tuple[str, UUID | None, int]]:
        """The lines that are not nothing, in a fixed order."""
        return [
            (account, grant, amount)
            for (account, grant), amount in sorted(
                self.amounts.items(), key=lambda item: (item[0][0], str(item[0][1]))
            )
            if amount
        ]


class Purse:
    """A wallet's credit while it is burnt. `owed` is what was charged beyond it; below zero: credit of no grant.

    That arises where something goes back that a true-up, or the next grant, had put back already. It is burnt first.
    """

    def __init__(self, credits: Iterable[Credit], *, owed: int) -> None:
        self.credits = {credit.id: credit for credit in sorted(credits, key=Credit.rank)}
        self.owed = owed
        self.lines = Lines()

    def draw(self, amount: int, *, placed_at: datetime, into: str) -> list[Draw]:
        """Takes an amount for a call into an account, in burn order; the rest is owed."""
        draws: list[Draw] = []
        if (part := min(amount, -self.owed)) > 0:
            self.owed += part
            amount -= part
            self.lines.move(part, source=("owed", None), target=(into, None))
            draws.append((None, part))
        for credit in self.credits.values():
            if not amount:
                break
            if credit.remaining and credit.pays_for(placed_at):
                part = min(amount, credit.remaining)
                credit.remaining -= part
                amount -= part
                self.lines.move(part, source=(credit.account, credit.id), target=(into, None))
                draws.append((credit.id, part))
        if amount:
            self.owed += amount
            self.lines.move(amount, source=("owed", None), target=(into, None))
            draws.append((None, amount))
        return draws

    def give_back(self, draws: Sequence[Draw], *, out_of: str) -> None:
        """Undoes draws: each part goes back to the credit that it came from, as far as it has room."""
        for grant, part in draws:
            left = part
            if grant is not None:
                left -= self._fill(self.credits[grant], part, out_of)
            self._settle(left, out_of)

    def restore(self, amount: int, *, now: datetime, out_of: str) -> None:
        """Puts an amount back as if the last of it had not been burnt: off what is owed, then the burn order backwards.

        Credit that ended gets what no other credit was burnt for.
        """
        owed = max(0, min(amount, self.owed))
        self._settle(owed, out_of)
        left = amount - owed
        backwards = list(reversed(self.credits.values()))
        for credit in sorted(backwards, key=lambda credit: not credit.active(now)):
            left -= self._fill(credit, left, out_of)
        self._settle(left, out_of)

    def _fill(self, credit: Credit, amount: int, out_of: str) -> int:
        part = min(amount, credit.amount - credit.remaining)
        if part:
            credit.remaining += part
            self.lines.move(part, source=(out_of, None), target=(credit.account, credit.id))
        return part

    def _settle(self, amount: int, out_of: str) -> None:
        if amount:
            self.owed -= amount
            self.lines.move(amount, source=(out_of, None), target=("owed", None))

    def repay(self, *, now: datetime) -> int:
        """Pays what is owed with credit that is there now; returns how much."""
        before = self.owed
        for credit in self.credits.values():
            part = min(self.owed, credit.remaining) if credit.active(now) else 0
            if part > 0:
                credit.remaining -= part
                self.owed -= part
                self.lines.move(part, source=(credit.account, credit.id), target=("owed", None))
        return before - self.owed

    def end(self, credit: Credit) -> int:
        """Takes what is left of a grant that lapsed off the wallet; returns how much."""
        part, credit.remaining = credit.remaining, 0
        expired = credit.expires_at is not None and (
            credit.voided_at is None or credit.expires_at <= credit.voided_at
        )
        target = "expired" if expired else ENDED_ACCOUNTS[credit.kind]
        self.lines.move(part, source=(credit.account, credit.id), target=(target, None))
        return part

    def balance(self, now: datetime) -> int:
        """What new calls may be held on, before what is in flight; negative when more is owed than is there."""
        return sum(credit.remaining for credit in self.credits.values() if credit.active(now)) - self.owed
