"""What a policy that is not saved yet would have done with past calls, by the log of decisions; docs/policies.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from budgets.domain import routing
from budgets.domain.policy import Metric
from budgets.domain.pricing import PricingError, bound_nano
from budgets.domain.pricing_book import PriceBook
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import Rates
from budgets.domain.routing import Decided, Outcome, Shape, decide, used_ppm
from budgets.domain.routing_rules import compiled
from budgets.models import RoutingPolicy
from budgets.queries.bounded import Row
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.services.policy import MEMORY, price_rules
from budgets.services.price_shelf import shelf
from budgets.services.routing import PolicyFields
from tenants.models import Tenant

DECISIONS_MAX: Final = 10_000
"""The most decisions of one simulation, the newest ones."""
PAGE: Final = 1_000
_DRAFT: Final = UUID(int=0)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A policy to try, in whose place, and on which decisions."""

    policy: PolicyFields
    replaces: UUID | None
    since: datetime
    until: datetime
    limit: int = DECISIONS_MAX


@dataclass
class SimulatedRule:
    """What one rule would have done; `policy_id` None: of the policy that is tried. Costs are bounds, in nano-USD."""

    policy_id: UUID | None
    rule: str
    then: Outcome
    calls: int = 0
    changed: int = 0
    before_nano: int = 0
    after_nano: int = 0


@dataclass
class Simulation:
    """What rules would have done with past calls. `more`: there are older decisions that were not looked at."""

    rules: list[SimulatedRule] = field(default_factory=list)
    calls: int = 0
    more: bool = False
    unmatched: int = 0
    changed: int = 0
    blocked: int = 0
    passed_over: int = 0
    before_nano: int = 0
    after_nano: int = 0


def simulate(*, tenant_id: UUID, wanted: Wanted, now: datetime) -> Simulation:
    """Decides anew about past calls that were let through, or that rules blocked, newest first."""
    policies = _policies(tenant_id, wanted)
    zone = Tenant.objects.get(pk=tenant_id).time_zone
    prices = TenantPrices(price_rules(tenant_id=tenant_id, since=now - MEMORY))
    by_rule = {
        (policy.policy_id, rule.name): SimulatedRule(
            None if policy.policy_id == _DRAFT else policy.policy_id, rule.name, rule.then
        )
        for policy in policies
        for rule in policy.rules
    }
    found = Simulation(rules=list(by_rule.values()))
    rows, found.more = _rows(tenant_id, wanted)
    with shelf.lock:
        pricing = _Pricing(shelf.book(), prices)
        for row in rows:
            _decide(row, policies, zone, pricing, by_rule, found)
    return found


def _policies(tenant_id: UUID, wanted: Wanted) -> list[routing.RoutingPolicy]:
    """The tenant's policies in their order, with the one that is tried in its place."""
    draft = compiled(
        policy_id=_DRAFT,
        rules=wanted.policy.rules,
        tiers=wanted.policy.tiers,
        time_zone=wanted.policy.time_zone,
    )
    live = RoutingPolicy.objects.filter(tenant_id=tenant_id, archived_at__isnull=True, enabled=True)
    rows = list(live.order_by("position", "created_at", "pk"))
    replaced = next((row for row in rows if row.pk == wanted.replaces), None)
    # One that stands in for another keeps its age; a new one comes last among those of its position.
    age = (replaced.created_at.timestamp(), str(replaced.pk)) if replaced else (float("inf"), "")
    ordered: list[tuple[Any, routing.RoutingPolicy]] = [((wanted.policy.position, *age), draft)]
    for row in rows:
        if row.pk == wanted.replaces:
            continue
        one = compiled(policy_id=row.pk, rules=row.rules, tiers=row.tiers, time_zone=row.time_zone)
        ordered.append(((row.position, row.created_at.timestamp(), str(row.pk)), one))
    return [policy for _, policy in sorted(ordered, key=lambda pair: pair[0])]


def _rows(tenant_id: UUID, wanted: Wanted) -> tuple[list[Row], bool]:
    asked = DecisionFilter(tenant_id=tenant_id, since=wanted.since, until=wanted.until)
    taken: list[Row] = []
    before: UUID | None = None
    while True:
        page = decisions(wanted=asked, before=before, limit=PAGE)
        for row in page:
            if row["reason"] is not None and row["reason"] != "policy_blocked":
                continue
            if len(taken) == wanted.limit:
                return taken, True
            # Django's connection gives JSON as text.
            taken.append(
                {**row, **{name: json.loads(row[name] or "{}") for name in ("tags", "tools", "routed")}}
            )
        if len(page) < PAGE:
            return taken, False
        before = page[-1]["id"]


class _Pricing:
    """Models by name at the time of a call."""

    def __init__(self, book: PriceBook, prices: TenantPrices) -> None:
        self._book, self._prices = book, prices

    def rates(self, provider: str, model: str, at: datetime) -> Rates | None:
        """A model's rates, None where its provider does not sell it."""
        found = self._prices.resolve(self._book, provider, model, at) if provider else None
        return found if isinstance(found, Rates) else None

    def bound_nano(self, row: Row, provider: str, model: str) -> int | None:
        """What a call would have held with a model; None where that cannot be told."""
        rates = self.rates(provider, model, row["decided_at"])
        if rates is None:
            return None
        try:
            cost = bound_nano(
                rates,
                input_tokens=row["input_tokens"],
                max_output_tokens=row["cap"] or 0,
                n=row["n"],
                cached_input_tokens=row["cached_input_tokens"],
                text_only=not (row["images"] or row["audio"]),
                images=row["images"],
                tool_calls=row["tools"],
                service_tier=row["service_tier"],
            )
        except PricingError:
            return None
        return cost if row["own_nano"] is None else max(cost, row["own_nano"])


def _decide(
    row: Row,
    policies: Sequence[routing.RoutingPolicy],
    zone: str,
    pricing: _Pricing,
    by_rule: dict[tuple[UUID, str], SimulatedRule],
    found: Simulation,
) -> None:
    said = row["routed"]
    provider, used = row["provider"] or "", row["model"] or ""
    # What a budget fell back to, or the caller's own list, is no rule's doing, and is not undone here.
    asked = said.get("asked") or used if said.get("policy") else used
    at: datetime = row["decided_at"]
    call = Shape(
        provider=provider,
        model=asked,
        input_tokens=row["input_tokens"],
        max_output_tokens=row["cap"] or 0,
        task=said.get("task") or "",
        output=said.get("output") or "",
        steps=said.get("steps"),
        plan=row["plan"] or "",
        customer=row["customer"] or "",
        project=row["project"] or "",
        tags=row["tags"],
    )
    decided = decide(
        policies,
        call,
        at=at,
        zone=zone,
        utilization_ppm=_used(row, said),
        sells=lambda model: pricing.rates(provider, model, at) is not None,
    )
    blocked_before = row["reason"] is not None
    before = 0 if blocked_before else row["estimate_nano"] or 0
    after, model, blocks = before, asked, False
    if isinstance(decided, Decided):
        model, blocks = decided.model, decided.then is Outcome.BLOCK
    if blocks:
        after = 0
    elif model != used or blocked_before:
        held = pricing.bound_nano(row, provider, model)
        after = before if held is None else held
    changed = blocks != blocked_before or (not blocks and model != used)
    found.calls += 1
    found.passed_over += bool(decided.passed_over)
    found.changed += changed
    found.blocked += blocks
    found.before_nano += before
    found.after_nano += after
    if not isinstance(decided, Decided):
        found.unmatched += 1
        return
    rule = by_rule[decided.policy_id, decided.rule]
    rule.calls += 1
    rule.changed += changed
    rule.before_nano += before
    rule.after_nano += after


def _used(row: Row, said: dict[str, Any]) -> int:
    """The used share of the tightest budget before the call: as rules were told, else by what the log has of it."""
    told = said.get("used_ppm")
    if told is not None:
        return int(told)
    if row["limit_amount"] is None or row["metric"] == Metric.CHARGE:
        return 0
    held = {
        Metric.USD: row["estimate_nano"] or 0,
        Metric.TOKENS: row["input_tokens"] + row["n"] * (row["cap"] or 0),
        Metric.REQUESTS: 1,
    }[Metric(row["metric"])]
    taken = 0 if row["reason"] is not None else held
    return used_ppm(row["limit_amount"], row["remaining"] + taken)
