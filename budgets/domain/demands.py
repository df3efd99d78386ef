"""Which budgets a call falls under, and what it needs from the counter of each. Pure; on the hot path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from budgets.domain.policy import EACH, Action, BudgetRule, GuardRule, Metric, Policy, Scope, WindowKind
from budgets.domain.windows import window_at
from noburn.kit import ids
from noburn.kit.clock import wire_time

BUDGETS_PER_CALL_MAX = 16
PLACES_MAX = 20_000
"""How many (budget, subject) places are remembered before the memory is started anew."""

TENANT_SUBJECT = "tenant"
"""The one subject of a budget over the whole tenant."""


class TooManyBudgets(ValueError):
    """A call falls under more than 16 budgets; the text says how many."""


class Attribution(msgspec.Struct, frozen=True):
    """Who and what a call is for. Empty text: not given."""

    project: str
    customer: str
    user: str
    run: str
    plan: str
    api_key: str
    provider: str
    model: str
    tags: Mapping[str, str]


class Bound(msgspec.Struct, frozen=True):
    """The most that a call can use, in each metric's unit."""

    cost_nano: int
    tokens: int
    requests: int = 1
    likely: Bound | None = None
    """What budgets with learned estimates hold instead, where something was learned; never more than the bound."""
    charge_nano: int = 0
    """The most that its customer is charged, where wallets are in use."""

    def held_by(self, rule: BudgetRule) -> int:
        """The amount that a budget holds for the call, in its own unit."""
        return (self.likely if rule.learned and self.likely is not None else self).of(rule.metric)

    def of(self, metric: Metric) -> int:
        """The amount in the unit of `metric`."""
        if metric is Metric.USD:
            return self.cost_nano
        if metric is Metric.CHARGE:
            return self.charge_nano
        return self.tokens if metric is Metric.TOKENS else self.requests


class Place(msgspec.Struct, frozen=True):
    """A counter: one budget for one subject in one window. Times are milliseconds; ends 0: never.

    `shown` is what the wire says of it in every answer and `name` its id in hexadecimal, both made once.
    """

    rule: BudgetRule
    subject: str
    counter_id: UUID
    starts_ms: int
    ends_ms: int
    shown: Mapping[str, str | None]
    name: str


def counter_id_of(*, budget_id: UUID, subject: str, starts_ms: int, ends_ms: int) -> UUID:
    """The id of a counter, known without asking anybody."""
    text = f"{budget_id.hex}|{starts_ms}|{ends_ms}|{subject}"
    return UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16).digest())


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


class Matcher:
    """Finds the counters of a tenant's calls. Built once for each policy; remembers places while their window lasts."""

    def __init__(self, policy: Policy) -> None:
        self._zone = policy.time_zone
        # Blocking budgets first: a refusal names the budget that a person can act on.
        self._rules = sorted(policy.budgets, key=lambda rule: rule.action is Action.WARN)
        self._places: dict[tuple[UUID, str], Place] = {}
        self._wallet = policy.wallet.as_budget() if policy.wallet is not None else None
        self._without: set[str] = set()

    def places(self, call: Attribution, *, now_ms: int) -> list[Place]:
        """The counters that a call falls under now. Raises TooManyBudgets."""
        found = []
        for rule in self._rules:
            subject = subject_of(rule, call)
            if subject is None:
                continue
            place = self._places.get((rule.budget_id, subject))
            if place is None or not place.starts_ms <= now_ms < (place.ends_ms or now_ms + 1):
                place = self._place(rule, subject, now_ms)
            found.append(place)
        if len(found) > BUDGETS_PER_CALL_MAX:
            raise TooManyBudgets(
                f"this call falls under {len(found)} budgets; at most {BUDGETS_PER_CALL_MAX} can be checked at once"
            )
        wallet = self._wallet
        if wallet is not None and call.customer and call.customer not in self._without:
            # Beside the sixteen: a customer that gets a wallet must not lose its calls to a number of budgets.
            known = self._places.get((wallet.budget_id, call.customer))
            found.append(known or self._place(wallet, call.customer, now_ms))
        return found

    def without_wallet(self, customer: str) -> None:
        """Remembers, as long as this policy lasts, that a customer has no wallet: making one makes another policy."""
        if len(self._without) >= PLACES_MAX:
            self._without.clear()
        self._without.add(customer)

    def _place(self, rule: BudgetRule, subject: str, now_ms: int) -> Place:
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        window = window_at(
            rule.window, now=now, zone=rule.time_zone or self._zone, anchor_day=rule.anchor_day
        )
        starts, ends = _milliseconds(window.starts_at), _milliseconds(window.ends_at) if window.ends_at else 0
        counter = counter_id_of(budget_id=rule.budget_id, subject=subject, starts_ms=starts, ends_ms=ends)
        shown = {
            # A wallet's id is its counter's: one customer has one.
            "id": ids.encode(ids.WALLET, counter)
            if rule.scope is Scope.WALLET
            else ids.encode(ids.BUDGET, rule.budget_id),
            "scope": rule.scope.value,
            "subject": subject,
            "window": rule.window.value,
            "resets_at": wire_time(ends) if ends else None,
        }
        if rule.plan is not None:
            shown["plan"] = rule.plan
        place = Place(rule, subject, counter, starts, ends, shown, counter.hex)
        if len(self._places) >= PLACES_MAX:
            self._places.clear()
        self._places[rule.budget_id, subject] = place
        return place


def subject_of(rule: BudgetRule | GuardRule, call: Attribution) -> str | None:
    """The subject that this budget or guard counts for the call, or None if it does not concern the call."""
    if rule.plan is not None and call.plan != rule.plan:
        return None
    if rule.scope is Scope.TENANT:
        return TENANT_SUBJECT
    if rule.scope is Scope.TAG:
        value = call.tags.get(rule.tag or "", "")
        wanted = rule.subject if rule.subject == EACH else rule.subject.partition("=")[2]
    else:
        value = getattr(call, rule.scope.value)
        wanted = rule.subject
    if not value or wanted not in (EACH, value):
        return None
    return str(value)


def is_rate(rule: BudgetRule) -> bool:
    """Whether the budget is a rate by the minute, which lives in Redis alone."""
    return rule.window is WindowKind.MINUTE
