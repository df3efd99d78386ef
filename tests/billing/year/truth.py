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
    cost_nano: int
    settled: bool


@dataclass
class Truth:
    """Calls, and the markups in force: of a tenant's default card, and of a customer's own."""

    calls: dict[UUID, Call] = field(default_factory=dict)
    default: dict[UUID, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))
    own: dict[Name, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))

    def markup(self, customer: Name, at: datetime) -> int:
        """The percents that a customer's card adds at a time."""
        for known in (self.own[customer], self.default[customer[0]]):
            found = bisect_right(known, at, key=lambda each: each[0])
            if found:
                return known[found - 1][1]
        raise AssertionError(f"no card for {customer} at {at}")

    def owed_nano(self, customer: Name) -> dict[datetime, int]:
        """What a customer owes for each month, in nano-USD."""
        months: dict[datetime, int] = defaultdict(int)
        for call in self.calls.values():
            if call.customer == customer and call.settled:
                whole = call.cost_nano * (100 + self.markup(customer, call.placed_at))
                assert whole % 100 == 0
                months[month_start(call.placed_at)] += whole // 100
        return months

    def owed_micro(self, customer: Name) -> int:
        """All of it, in micro-USD: each month by itself is rounded down."""
        return sum(nano // 1_000 for nano in self.owed_nano(customer).values())

    def settled(self, customers: Iterable[Name]) -> list[UUID]:
        """The settled calls of some customers."""
        wanted = set(customers)
        return [hold for hold, call in self.calls.items() if call.settled and call.customer in wanted]
