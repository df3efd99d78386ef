"""What guards would have done: scenarios replayed through the pure rules, and what came of it as a table."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from budgets.domain.guards import WIRE_NAMES, Book, Watched, thousandths
from budgets.domain.policy import EACH, GuardKind, GuardRule, Scope
from tests.scenarios.traffic import NANO, SCENARIOS, Event, Scenario

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "guards.md"
BEGIN, END = "<!-- replayed: begin -->", "<!-- replayed: end -->"


def _rule(number: int, name: str, kind: GuardKind, scope: Scope, **limits: int) -> GuardRule:
    return GuardRule(UUID(int=number), name, kind, True, scope, EACH, limits)


RECOMMENDED = (
    _rule(1, "loops", GuardKind.REPEAT, Scope.CUSTOMER, times=10, seconds=60),
    _rule(2, "spend of a key", GuardKind.VELOCITY, Scope.API_KEY, nano_per_minute=10 * NANO),
    _rule(3, "depth", GuardKind.DEPTH, Scope.TENANT, levels=3),
    _rule(4, "size of a call", GuardKind.CALL, Scope.TENANT, cost_nano=NANO, input_tokens=400_000),
    _rule(5, "newcomers", GuardKind.NEWCOMER, Scope.CUSTOMER, nano=2 * NANO, minutes=60),
)
"""What docs/guards.md recommends to begin with."""


@dataclass
class Tripped:
    """What one guard did in one scenario."""

    guard: str
    at_ms: int
    spent_nano: int
    calls: int = 0


@dataclass
class Outcome:
    """What came of one scenario."""

    scenario: Scenario
    calls: int
    asked_nano: int
    spent_nano: int
    stopped: int
    trips: list[Tripped]


def replay(scenario: Scenario, rules: Sequence[GuardRule] = RECOMMENDED) -> Outcome:
    """Replays a scenario: calls that go on are settled when they are done, as a gateway tells its guards."""
    book, events = Book(rules), scenario.events()
    started = events[0].at_ms
    settling: list[tuple[int, int, Event]] = []
    trips: dict[str, Tripped] = {}
    spent = stopped = 0
    for number, event in enumerate(events):
        while settling and settling[0][0] <= event.at_ms:
            _, _, done = heapq.heappop(settling)
            book.ease(
                watched(done), subjects(done, rules), placed_ms=done.at_ms, actual_nano=done.actual_nano
            )
        passed, found = book.decide(watched(event), subjects(event, rules), now_ms=event.at_ms)
        for trip in found:
            known = trips.setdefault(trip.rule.name, Tripped(trip.rule.name, event.at_ms - started, spent))
            known.calls += 1
        if not passed:
            stopped += 1
            continue
        spent += event.actual_nano
        heapq.heappush(settling, (event.at_ms + event.took_ms, number, event))
    asked = sum(event.actual_nano for event in events)
    return Outcome(scenario, len(events), asked, spent, stopped, list(trips.values()))


def watched(event: Event) -> Watched:
    """A call as guards look at it."""
    return Watched(
        event.bound_nano, event.input_tokens, event.cap, event.fingerprint, event.depth, event.first_ms
    )


def subjects(event: Event, rules: Sequence[GuardRule]) -> dict[UUID, str]:
    """The call's subject for each guard that concerns it."""
    names = {Scope.TENANT: "tenant", Scope.CUSTOMER: event.customer, Scope.API_KEY: event.api_key}
    return {rule.guard_id: names[rule.scope] for rule in rules}


def tables() -> str:
    """What is recommended, and what came of each scenario under it, as Markdown."""
    lines = ["| Guard | Kind | Scope | Limits |", "|---|---|---|---|"]
    for rule in RECOMMENDED:
        limits = ", ".join(
            f"`{WIRE_NAMES.get(name, name)}` {_limit(name, value)}" for name, value in rule.limits.items()
        )
        lines.append(f"| {rule.name} | `{rule.kind}` | `{rule.scope}`, each | {limits} |")
    lines += [
        "",
        "| Traffic | Calls | Costs unguarded | Went through | Stopped | What tripped, when, after how much |",
        "|---|---|---|---|---|---|",
    ]
    for scenario in SCENARIOS:
        outcome = replay(scenario)
        trips = "; ".join(
            f"{trip.guard} after {_span(trip.at_ms)} and {_usd(trip.spent_nano)}" for trip in outcome.trips
        )
        lines.append(
            f"| **{scenario.name}**: {scenario.says} | {outcome.calls:,} | {_usd(outcome.asked_nano)} "
            f"| {_usd(outcome.spent_nano)} | {outcome.stopped:,} | {trips or 'nothing'} |"
        )
    return "\n".join(lines)


def documented(text: str) -> str:
    """The document with the tables of a replay in it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _limit(name: str, value: int) -> str:
    if name == "usual_thousandths":
        return thousandths(value)
    return _usd(value) if name in WIRE_NAMES else f"{value:,}"


def _usd(nano: int) -> str:
    cents = (nano + NANO // 200) // (NANO // 100)
    return f"${cents // 100:,}.{cents % 100:02d}"


def _span(ms: int) -> str:
    seconds = ms // 1000
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
