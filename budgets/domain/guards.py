"""Runaway guards: what stops a call that no budget would. Source: docs/guards.md. Pure: no clock, no store.

`guarded.lua` says the same in its own language, and a test holds the two to each other. A `Book` is that script's memory
in Python: a holder of authority that decides by itself (an SDK with a lease, a replay of past calls) watches by it with
nothing but rules as data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import msgspec

from budgets.domain.policy import GuardKind, GuardRule, Scope
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError

GUARDS_MAX: Final = 50
"""Guards of one tenant: all of them are in its compiled policy."""

SCOPES: Final = (Scope.TENANT, Scope.PROJECT, Scope.CUSTOMER, Scope.USER, Scope.API_KEY)
"""Whose calls a guard may watch. A newcomer is a customer."""

LIMITS: Final[Mapping[GuardKind, Mapping[str, tuple[int, int]]]] = {
    GuardKind.REPEAT: {"times": (1, 1_000), "seconds": (1, 3_600)},
    GuardKind.VELOCITY: {
        "nano_per_minute": (0, 2**53),
        "usual_thousandths": (1_000, 1_000_000),
        "usual_floor_nano": (0, 2**53),
    },
    GuardKind.DEPTH: {"levels": (0, 7)},
    GuardKind.CALL: {
        "cost_nano": (0, 2**53),
        "input_tokens": (0, 1_000_000_000),
        "output_tokens": (0, 1_000_000_000),
    },
    GuardKind.NEWCOMER: {"nano": (0, 2**53), "minutes": (1, 10_080)},
}
"""The limits that a guard of each kind may name, with their smallest and largest values."""

NEEDED: Final[Mapping[GuardKind, frozenset[str]]] = {
    GuardKind.REPEAT: frozenset({"times", "seconds"}),
    GuardKind.DEPTH: frozenset({"levels"}),
    GuardKind.NEWCOMER: frozenset({"nano", "minutes"}),
}
"""What a guard of a kind must name; of the others at least one."""

WIRE_NAMES: Final[Mapping[str, str]] = {
    "nano_per_minute": "usd_per_minute",
    "usual_thousandths": "times_usual",
    "usual_floor_nano": "usual_floor_usd",
    "cost_nano": "cost_usd",
    "nano": "usd",
}
"""What limits are called on the wire, where that is not their own name."""

REASONS: Final[Mapping[GuardKind, str]] = {
    GuardKind.REPEAT: "loop_detected",
    GuardKind.VELOCITY: "velocity",
    GuardKind.DEPTH: "run_limit",
    GuardKind.CALL: "call_too_large",
    GuardKind.NEWCOMER: "velocity",
}
"""What a refusal by each kind gives as its reason."""

SLOT_MS: Final = 10_000
MINUTE_MS: Final = 60_000
USUAL_MINUTES: Final = 30
USUAL_MINUTES_MIN: Final = 10
"""Of so many minutes at least something must be known before a minute can be unusual."""


def limit_errors(kind: GuardKind, limits: Mapping[str, int]) -> list[FieldError]:
    """Returns what is wrong with the limits of a guard, each by its name on the wire."""
    known = LIMITS[kind]
    errors = []
    for name in sorted(limits.keys() - known.keys()):
        errors.append(
            FieldError(f"limits.{WIRE_NAMES.get(name, name)}", f"is no limit of a guard of kind {kind}")
        )
    needed = NEEDED.get(kind, frozenset())
    errors += [
        FieldError(f"limits.{WIRE_NAMES.get(name, name)}", "is required")
        for name in sorted(needed - limits.keys())
    ]
    if not needed and not limits.keys() & known.keys() - {"usual_floor_nano"}:
        names = ", ".join(WIRE_NAMES.get(name, name) for name in known if name != "usual_floor_nano")
        errors.append(FieldError("limits", f"must name at least one of {names}"))
    for name in sorted(limits.keys() & known.keys()):
        least, most = known[name]
        if not least <= limits[name] <= most:
            errors.append(
                FieldError(
                    f"limits.{WIRE_NAMES.get(name, name)}",
                    f"must be from {_shown(name, least)} to {_shown(name, most)}",
                )
            )
    if "usual_floor_nano" in limits and "usual_thousandths" not in limits:
        errors.append(FieldError("limits.usual_floor_usd", "belongs to times_usual"))
    return errors


def _shown(name: str, value: int) -> str:
    if name == "usual_thousandths":
        return thousandths(value)
    return to_usd(value) if name in WIRE_NAMES else str(value)


class Watched(msgspec.Struct, frozen=True):
    """What guards look at of a call: never its content. Tokens are bounds; `depth` is that of its run, 0: none above it.

    `fingerprint` tells the same request from another; without one no repeat is seen. `first_ms` is when its customer was
    first seen, None: there is no customer, or nobody asks.
    """

    cost_nano: int
    input_tokens: int = 0
    output_tokens: int = 0
    fingerprint: str = ""
    depth: int = 0
    first_ms: int | None = None


class Trip(msgspec.Struct, frozen=True):
    """One guard that stops a call, or would. `figure` is what passed its limit: times, nano-USD, tokens or levels."""

    rule: GuardRule
    subject: str
    figure: int
    what: str = ""


def stateless(rule: GuardRule, call: Watched) -> tuple[int, str] | None:
    """The figure of a call that is too large or too deep by itself, and the limit that it passes; else None."""
    limits = rule.limits
    if rule.kind is GuardKind.DEPTH:
        return (call.depth, "levels") if call.depth > limits["levels"] else None
    if rule.kind is GuardKind.CALL:
        for name, value in (
            ("cost_nano", call.cost_nano),
            ("input_tokens", call.input_tokens),
            ("output_tokens", call.output_tokens),
        ):
            if name in limits and value > limits[name]:
                return value, name
    return None


def thousandths(value: int) -> str:
    """Returns a number of thousandths as people write it: 2500 is 2.5."""
    whole, part = divmod(value, 1000)
    return f"{whole}.{part:03d}".rstrip("0") if part else str(whole)


def newcomer_until(rule: GuardRule, call: Watched) -> int | None:
    """The millisecond at which a customer's first time is over; None if the guard has nothing to watch."""
    if rule.kind is not GuardKind.NEWCOMER or call.first_ms is None:
        return None
    return call.first_ms + rule.limits["minutes"] * MINUTE_MS


def name_of(rule: GuardRule, subject: str, call: Watched) -> str:
    """What tells one state from another: the guard, its subject, and for repeats the request."""
    return f"{rule.guard_id.hex}|{subject}|{call.fingerprint if rule.kind is GuardKind.REPEAT else rule.kind}"


@dataclass
class _State:
    seen: deque[int] = field(default_factory=deque)
    slots: dict[int, int] = field(default_factory=dict)
    minutes: dict[int, int] = field(default_factory=dict)
    total: int = 0


class Book:
    """What guards saw lately, in memory. Bounded: the states least recently used leave first."""

    def __init__(self, rules: Iterable[GuardRule], *, states_max: int = 10_000) -> None:
        self.rules = tuple(rules)
        self._states: dict[str, _State] = {}
        self._max = states_max

    def decide(
        self, call: Watched, subjects: Mapping[UUID, str], *, now_ms: int
    ) -> tuple[bool, tuple[Trip, ...]]:
        """Whether a call may go on, and every guard that tripped; notes what its guards must remember.

        `subjects` are those of the call, by the guards that concern it. What is stopped by an enforcing guard is noted
        by repeats alone: a loop stays stopped until it pauses.
        """
        trips: list[Trip] = []
        for rule in self.rules:
            if (subject := subjects.get(rule.guard_id)) is not None:
                found = stateless(rule, call) or self._stateful(rule, subject, call, now_ms)
                if found is not None:
                    trips.append(Trip(rule, subject, *found))
        stopped = any(trip.rule.enforce for trip in trips)
        for rule in self.rules:
            if (subject := subjects.get(rule.guard_id)) is not None:
                self._note(rule, subject, call, now_ms, passed=not stopped)
        return not stopped, tuple(trips)

    def ease(self, call: Watched, subjects: Mapping[UUID, str], *, placed_ms: int, actual_nano: int) -> None:
        """Corrects what was counted of a call that was let through by what it really cost."""
        difference = actual_nano - call.cost_nano
        for rule in self.rules:
            subject = subjects.get(rule.guard_id)
            if subject is None or (state := self._states.get(name_of(rule, subject, call))) is None:
                continue
            if rule.kind is GuardKind.VELOCITY:
                for counts, key in (
                    (state.slots, placed_ms // SLOT_MS),
                    (state.minutes, placed_ms // MINUTE_MS),
                ):
                    if key in counts:
                        counts[key] += difference
            elif rule.kind is GuardKind.NEWCOMER:
                state.total += difference

    def _stateful(self, rule: GuardRule, subject: str, call: Watched, now_ms: int) -> tuple[int, str] | None:
        state = self._states.get(name_of(rule, subject, call))
        limits = rule.limits
        if rule.kind is GuardKind.REPEAT and call.fingerprint and state is not None:
            times = limits["times"]
            if len(state.seen) >= times and now_ms - state.seen[-times] < limits["seconds"] * 1000:
                return times, "times"
        elif rule.kind is GuardKind.VELOCITY:
            return _too_fast(limits, state or _State(), call.cost_nano, now_ms)
        elif (until := newcomer_until(rule, call)) is not None and now_ms < until:
            total = (state.total if state is not None else 0) + call.cost_nano
            return (total, "nano") if total > limits["nano"] else None
        return None

    def _note(self, rule: GuardRule, subject: str, call: Watched, now_ms: int, *, passed: bool) -> None:
        name = name_of(rule, subject, call)
        if rule.kind is GuardKind.REPEAT and call.fingerprint:
            seen = self._state(name).seen
            seen.append(now_ms)
            while len(seen) > rule.limits["times"]:
                seen.popleft()
        elif rule.kind is GuardKind.VELOCITY and passed:
            state = self._state(name)
            for counts, key, keep in (
                (state.slots, now_ms // SLOT_MS, 6),
                (state.minutes, now_ms // MINUTE_MS, USUAL_MINUTES + 1),
            ):
                counts[key] = counts.get(key, 0) + call.cost_nano
                for old in [other for other in counts if other <= key - keep]:
                    del counts[old]
        elif passed and (until := newcomer_until(rule, call)) is not None and now_ms < until:
            self._state(name).total += call.cost_nano

    def _state(self, name: str) -> _State:
        state = self._states.pop(name, None) or _State()
        self._states[name] = state
        if len(self._states) > self._max:
            del self._states[next(iter(self._states))]
        return state


def _too_fast(limits: Mapping[str, int], state: _State, cost: int, now_ms: int) -> tuple[int, str] | None:
    """What is spent in the last minute with this call, if that is more than a fixed limit or than is usual."""
    slot, minute = now_ms // SLOT_MS, now_ms // MINUTE_MS
    total = cost + sum(value for key, value in state.slots.items() if key > slot - 6)
    if "nano_per_minute" in limits and total > limits["nano_per_minute"]:
        return total, "nano_per_minute"
    known = {key: value for key, value in state.minutes.items() if key >= minute - USUAL_MINUTES}
    span = minute - min(known, default=minute)
    if "usual_thousandths" not in limits or span < USUAL_MINUTES_MIN:
        return None
    usual = sum(value for key, value in known.items() if key < minute)
    if (
        total > limits.get("usual_floor_nano", 0)
        and total * 1000 * span > limits["usual_thousandths"] * usual
    ):
        return total, "usual_thousandths"
    return None
