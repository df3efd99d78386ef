"""Which model a call uses, by a tenant's policies: ordered rules, of which the first that matches decides. Pure.

What a tenant calls a policy is here a *routing policy*: `policy.py` is the compiled snapshot of everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

MILLION: Final = 1_000_000
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TIERS: Final = ("small", "big")
OUTPUTS: Final = ("text", "json", "schema")
"""What a call wants back: text, any JSON, or JSON by a strict schema."""


class Outcome(StrEnum):
    """What a rule does with a call that it matches."""

    ALLOW = "allow"
    BLOCK = "block"
    USE_MODEL = "use_model"
    USE_TIER = "use_tier"


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Numbers from `least` to `most`, both included; None: no bound."""

    least: int | None = None
    most: int | None = None

    def holds(self, value: int) -> bool:
        """Whether a number lies within."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


class Hours(msgspec.Struct, frozen=True, array_like=True):
    """Days of the week (0 is Monday; none: every one) and minutes of the day, `[starts, ends)`, over midnight too."""

    days: tuple[int, ...] = ()
    starts: int = 0
    ends: int = 1440

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies within. After midnight a span still belongs to the day on which it began."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.starts <= self.ends:
            inside = self.starts <= minute < self.ends
        else:
            inside = minute >= self.starts or minute < self.ends
            day = (day - 1) % 7 if minute < self.ends else day
        return inside and (not self.days or day in self.days)


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """One rule: everything that it names must hold. A name may end in `*`; an empty tuple asks for nothing.

    `utilization_ppm` is the used share of the tightest budget that the call falls under, in millionths.
    """

    name: str
    then: Outcome
    target: str = ""
    """The model of USE_MODEL, the tier of USE_TIER."""
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    tags: tuple[tuple[str, tuple[str, ...]], ...] = ()
    input_tokens: Span | None = None
    max_output_tokens: Span | None = None
    steps: Span | None = None
    hours: Hours | None = None
    utilization_ppm: Span | None = None


class RoutingPolicy(msgspec.Struct, frozen=True, array_like=True):
    """A tenant's policy as gateways have it. `tiers` are (provider, small, big); `time_zone` None: the tenant's."""

    policy_id: UUID
    rules: tuple[Rule, ...]
    tiers: tuple[tuple[str, str, str], ...] = ()
    time_zone: str | None = None

    def model_of(self, provider: str, tier: str) -> str:
        """The model of a tier at a provider; empty where none is named."""
        for name, small, big in self.tiers:
            if name == provider:
                return small if tier == "small" else big
        return ""


class Shape(msgspec.Struct, frozen=True):
    """What rules may look at in a call. Empty text: not given. `steps`: messages or steps that it goes through."""

    provider: str
    model: str
    input_tokens: int
    max_output_tokens: int
    task: str = ""
    output: str = ""
    steps: int | None = None
    plan: str = ""
    customer: str = ""
    project: str = ""
    tags: Mapping[str, str] = {}


class Decided(msgspec.Struct, frozen=True):
    """The rule that decides about a call, and the model to use: the one asked for, unless the rule names another.

    `passed_over` are rules that matched and name a model that the call's provider does not sell.
    """

    policy_id: UUID
    rule: str
    then: Outcome
    model: str
    passed_over: tuple[str, ...] = ()


class NoRule(msgspec.Struct, frozen=True):
    """No rule matches."""

    passed_over: tuple[str, ...] = ()


class NeedsUtilization(Exception):
    """What decides is how much of the call's budgets is used, which was not told."""


def decide(
    policies: Iterable[RoutingPolicy],
    call: Shape,
    *,
    at: datetime,
    zone: str,
    utilization_ppm: int | None,
    sells: Callable[[str], bool],
) -> Decided | NoRule:
    """Returns what the first matching rule decides. Raises NeedsUtilization where that must be told first.

    `sells` says whether the call's provider sells a model: a call never changes its provider, since the answer would
    have another shape.
    """
    passed_over: list[str] = []
    for policy in policies:
        local = at.astimezone(ZoneInfo(policy.time_zone or zone))
        for rule in policy.rules:
            if not matches(rule, call, local=local, utilization_ppm=utilization_ppm):
                continue
            model = call.model
            if rule.then is Outcome.USE_MODEL:
                model = rule.target
            elif rule.then is Outcome.USE_TIER:
                model = policy.model_of(call.provider, rule.target)
            if model != call.model and (not model or not sells(model)):
                passed_over.append(rule.name)
                continue
            return Decided(policy.policy_id, rule.name, rule.then, model, tuple(passed_over))
    return NoRule(tuple(passed_over))


def matches(rule: Rule, call: Shape, *, local: datetime, utilization_ppm: int | None) -> bool:
    """Whether a rule matches a call. Raises NeedsUtilization where nothing else is left to look at."""
    if not (
        _named(rule.providers, call.provider)
        and _named(rule.models, call.model)
        and _named(rule.tasks, call.task)
        and _named(rule.outputs, call.output)
        and _named(rule.plans, call.plan)
        and _named(rule.customers, call.customer)
        and _named(rule.projects, call.project)
    ):
        return False
    if not all(_named(values, call.tags.get(name, "")) for name, values in rule.tags):
        return False
    if rule.input_tokens is not None and not rule.input_tokens.holds(call.input_tokens):
        return False
    if rule.max_output_tokens is not None and not rule.max_output_tokens.holds(call.max_output_tokens):
        return False
    if rule.steps is not None and (call.steps is None or not rule.steps.holds(call.steps)):
        return False
    if rule.hours is not None and not rule.hours.holds(local):
        return False
    if rule.utilization_ppm is None:
        return True
    if utilization_ppm is None:
        raise NeedsUtilization
    return rule.utilization_ppm.holds(utilization_ppm)


def _named(patterns: tuple[str, ...], value: str) -> bool:
    """Whether a value is one of those named; one that is not given is none of them."""
    if not patterns:
        return True
    return bool(value) and any(
        value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern for pattern in patterns
    )


def used_ppm(limit: int, remaining: int) -> int:
    """The used share of a limit in millionths; a limit of nothing is used up."""
    if limit <= 0:
        return MILLION
    return max(0, (limit - remaining) * MILLION // limit)
