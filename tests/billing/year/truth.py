"""What a life's customers owe, by a journal of what was done and by arithmetic that is nobody else's.

A call costs whole hundreds of nano-USD and a card adds whole percents, so what a customer pays for it is a whole number
of nano-USD: nothing is rounded here but the period's sum, down to whole micro-USD, as its measurements are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

Name = tuple[UUID, str]
"""A tenant and its customer."""


def month_start(at: datetime) -> datetime:
    """The first of a moment's month."""
    return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@dataclass
class Call:
    """One call as it stands now; what is presumed is billed to nobody."""

    customer: Name
    placed_at: datetime
    tokens: int
    cost_nano: int
    settled: bool
    by_wallet: bool = False


@dataclass
class Truth:
    """Calls, and the markups in force: of a tenant's default card, and of a customer's own."""

    calls: dict[UUID, Call] = field(default_factory=dict)
    default: dict[UUID, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))
    own: dict[Name, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))
    last: dict[Name, set[datetime]] = field(default_factory=lambda: defaultdict(set))
    """Months of the quiet end in which a customer used something after all."""

    bounds: dict[Name, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    """Full hours in which a customer's subscription ended or began: periods end there, as they do with the month."""

    def markup(self, customer: Name, at: datetime) -> int:
        """The percents that a customer's card adds at a time."""
        for known in (self.own[customer], self.default[customer[0]]):
            found = bisect_right(known, at, key=lambda each: each[0])
            if found:
                return known[found - 1][1]
        raise AssertionError(f"no card for {customer} at {at}")

    def charge_nano(self, call: Call) -> int:
        """What a settled call is charged by the card that its customer had."""
        whole = call.cost_nano * (100 + self.markup(call.customer, call.placed_at))
        assert whole % 100 == 0
        return whole // 100

    def owed_nano(self, customer: Name) -> dict[datetime, int]:
        """What a customer owes over Stripe for each period, by its start, in nano-USD."""
        periods: dict[datetime, int] = defaultdict(int)
        bounds = sorted(self.bounds[customer])
        for call in self.calls.values():
            if call.customer == customer and call.settled and not call.by_wallet:
                begun = [at for at in bounds if at <= call.placed_at]
                periods[max([month_start(call.placed_at), *begun])] += self.charge_nano(call)
        return periods

    def owed_micro(self, customer: Name) -> int:
        """All of it, in micro-USD: each period by itself is rounded down."""
        return sum(nano // 1_000 for nano in self.owed_nano(customer).values())

    def wallet_nano(self, customer: Name) -> int:
        """What a customer's wallet pays: its settled calls by the card, and what presumed ones put aside."""
        calls = [call for call in self.calls.values() if call.customer == customer and call.by_wallet]
        return sum(self.charge_nano(call) if call.settled else call.cost_nano for call in calls)

    def settled(self, customers: Iterable[Name]) -> list[UUID]:
        """The settled calls of some customers."""
        wanted = set(customers)
        return [hold for hold, call in self.calls.items() if call.settled and call.customer in wanted]
