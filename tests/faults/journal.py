"""What the clients know: what they asked for, were allowed, and were told is recorded. The truth that noburn is held to.

Amounts are nano-USD. Times are milliseconds since 1970, by the one clock of this machine, which Redis tells too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from noburn.kit import ids

Window = tuple[str, str, int]
"""One counter as clients see it: tenant, subject, and the number of its window (0: for ever)."""


@dataclass(slots=True)
class HoldTold:
    """One hold that a client was allowed. `told` is what an acknowledged answer said became of it."""

    hold: str
    tenant: str
    windows: tuple[Window, ...]
    amount: int
    placed_ms: float
    told: tuple[str, int] | None = None


@dataclass
class Journal:
    """Kept by clients alone, in the harness's own process."""

    limits: dict[Window, int] = field(default_factory=dict)
    holds: dict[str, HoldTold] = field(default_factory=dict)
    events: dict[Window, list[tuple[float, int, bool]]] = field(default_factory=lambda: defaultdict(list))
    """By counter: when, by how much what is committed changed, and whether that was a placing."""
    counts: Counter[str] = field(default_factory=Counter)
    refused: dict[Window, list[int]] = field(default_factory=lambda: defaultdict(list))
    unchecked: set[str] = field(default_factory=set)
    before_restore: set[str] = field(default_factory=set)
    settles: int = 0
    lost: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)

    def allowed(self, told: HoldTold) -> None:
        """A client was told that its call may fire; a replay tells nothing new."""
        if told.hold in self.holds:
            return
        self.holds[told.hold] = told
        for window in told.windows:
            self.events[window].append((told.placed_ms, told.amount, True))

    def freeing(self, hold: str, amount: int, at_ms: float) -> None:
        """A client sends word that a hold needs less: from now on noburn may know it."""
        for window in self.holds[hold].windows:
            self.events[window].append((at_ms, -amount, False))

    def acknowledged(self, hold: str, state: str, amount: int) -> None:
        """A client was told that this is recorded. What was settled stays so; a void may still be settled."""
        known = self.holds[hold]
        if known.told is None or known.told[0] != "settled":
            known.told = (state, amount)
        self.unchecked.add(hold)
        self.settles += 1

    def forget(self, since_ms: float) -> None:
        """PostgreSQL was restored as of this time: what it was told since is lost, and nobody may hold it to that.

        Nor to the budgets of those who called then: it does not know what they spent.
        """
        self.before_restore |= {window[1] for window in self.events}
        for hold in list(self.holds):
            known = self.holds[hold]
            if known.placed_ms >= since_ms or hold in self.unchecked:
                del self.holds[hold]
                self.unchecked.discard(hold)
        self.events.clear()

    def check(self, recorded: dict[str, tuple[str, int]]) -> None:
        """Compares what was acknowledged since the last check with PostgreSQL's resolutions, by hold."""
        for hold in self.unchecked:
            told = self.holds[hold].told
            if recorded.get(hold) != told:
                self.lost.append(f"{hold}: told {told}, recorded {recorded.get(hold)}")
        self.unchecked.clear()
        for window, events in self.events.items():
            committed, limit = 0, self.limits[window[0], window[1].partition(":")[0], 0]
            # Of one millisecond, what frees comes first: nobody saw them in another order.
            for at, amount, placing in sorted(events, key=lambda event: (event[0], event[1])):
                committed += amount
                if placing and committed > limit:
                    self.over.append(f"{window} at {at:.0f}: {committed} of {limit}")

    def falsely_refused(self, rows: list[dict[str, Any]]) -> int:
        """Refusals for which there was room at the end, beside what is spent and stranded; so there was all along."""
        room = {
            (row["tenant"], row["subject"], 0): row["limit"]
            - row["spent"]
            - row["stranded"]
            - row["taken_back"]
            for row in rows
        }
        return sum(
            amount <= room[window]
            for window, amounts in self.refused.items()
            if window in room
            for amount in amounts
        )


def hold_of(value: Any) -> str:
    """PostgreSQL's hold id as clients see it."""
    return ids.encode(ids.HOLD, value)
