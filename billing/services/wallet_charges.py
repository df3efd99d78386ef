"""What customers with wallets are charged: the most of a call, written into the policy, and exactly, of a settled one.

A call is charged by the card that held when it was placed, by itself: what a period's allowance or tiers change is
the period's (`billing.services.charges`). Where a card is not linear, the dearest marginal rate is charged, and
`billing.services.true_ups` puts back what that is too much. At times without a card a call is charged what the model
costs, whatever cards there are by the time that somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from billing.domain.ceilings import ceilings, marginal_ceiling
from billing.domain.charging import use_of_sums
from billing.domain.rate_cards import Terms
from billing.models import RateCardAssignment
from billing.queries.rate_cards import DEFAULT, Cards, cards_of
from budgets.domain.charging import (
    AT_COST,
    ATTO_PER_PICO,
    RATE_PICO_MAX,
    Ceiling,
    CeilingRule,
    ChargeRules,
)
from budgets.domain.policy import Scope
from budgets.models import Budget
from budgets.queries.billable import KINDS
from budgets.services.wallet_limits import set_charges
from noburn.kit.money import divide_up

ASSIGNED_MAX: Final = 10_000
"""Beyond so many customers with cards of their own, all are held by the dearest of all cards."""

TABLES_MAX: Final = 200

AHEAD: Final = timedelta(hours=2)
"""Versions that begin so soon count already: longer than it takes until the policy is written again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What is known of a settled call. `usage` is the ledger's; None where only the cost was told."""

    customer: str
    provider: str
    model: str
    placed_at: datetime
    cost_nano: int
    requests: int
    usage: dict[str, Any] | None


ChargesOf = Callable[[UUID, Sequence[Settled]], list[int]]
"""Charges settled calls of one tenant exactly: nano-USD, in their order."""


def charges_of(tenant_id: UUID, calls: Sequence[Settled]) -> list[int]:
    """Returns what settled calls of one tenant are charged, in nano-USD, in their order."""
    cards = cards_of(tenant_id=tenant_id, customers={call.customer for call in calls})
    return [charge_of(_terms_at(cards, call.customer, call.placed_at), call) for call in calls]


def charge_of(terms: Terms | None, call: Settled) -> int:
    """Returns what one settled call is charged at these terms; without a card at its time it is charged its cost."""
    if terms is None:
        return call.cost_nano
    marginal = marginal_ceiling(terms, call.provider, call.model)
    return marginal.ceiling_of_use(_use(call))


def _use(call: Settled) -> Any:
    usage = call.usage or {}
    tools = usage.get("tool_calls") or {}
    counts = {name: int(usage.get(name) or 0) for name in KINDS if name != "tool_calls"}
    return use_of_sums(
        cost_nano=call.cost_nano, requests=call.requests, tool_calls=sum(tools.values()), **counts
    )


def _terms_at(cards: Cards, customer: str, at: datetime) -> Terms | None:
    spans = cards.spans_of(customer, starts_at=at, until=at + timedelta(microseconds=1))
    return spans[0].version.terms if spans and spans[0].version is not None else None


def rules_of(*, tenant_id: UUID, now: datetime) -> ChargeRules:
    """Returns the most that a tenant's customers are charged, by the cards that hold now or soon."""
    many = (
        RateCardAssignment.objects.filter(tenant_id=tenant_id, withdrawn_at__isnull=True)
        .exclude(customer=DEFAULT)
        .values("customer")
        .distinct()
        .count()
        > ASSIGNED_MAX
    )
    cards = cards_of(tenant_id=tenant_id, customers=None)
    if not cards.assignments:
        return ChargeRules()
    tables: dict[tuple[CeilingRule, ...], int] = {}

    def places(customer: str) -> tuple[int, ...]:
        spans = cards.spans_of(customer, starts_at=now - timedelta(hours=1), until=now + AHEAD)
        found = []
        for span in spans:
            terms = span.version.terms if span.version is not None else None
            found.append(tables.setdefault(_table(terms), len(tables)))
        return tuple(sorted(set(found)))

    default = places(DEFAULT)
    assigned = {customer: places(customer) for customer in sorted(cards.assignments) if customer != DEFAULT}
    every = tuple(range(len(tables)))
    if many or len(tables) > TABLES_MAX:
        assigned, default = {}, every
    return ChargeRules(
        tables=tuple(tables),
        default=default,
        assigned={customer: own for customer, own in assigned.items() if own != default},
    )


def _table(terms: Terms | None) -> tuple[CeilingRule, ...]:
    if terms is None:
        return (CeilingRule("*", "*", AT_COST),)
    return tuple(
        CeilingRule(
            row["provider"],
            row["model"],
            Ceiling(
                row["cost_ppm"],
                input_pico=_pico(row["input_atto"]),
                output_pico=_pico(row["output_atto"]),
                image_pico=_pico(row["image_atto"]),
                tool_call_pico=_pico(row["tool_call_atto"]),
                request_pico=_pico(row["request_atto"]),
            ),
        )
        for row in ceilings(terms)
    )


def _pico(atto: int) -> int:
    """A rate as the policy holds it: rounded up, and no more than makes one such thing too dear for any wallet."""
    return min(divide_up(atto, ATTO_PER_PICO), RATE_PICO_MAX)


def write_charges(*, tenant_id: UUID, now: datetime) -> bool:
    """Writes the most that customers are charged into the tenant's policy; returns whether that was news."""
    return set_charges(tenant_id=tenant_id, rules=rules_of(tenant_id=tenant_id, now=now), now=now)


def tenants_with_wallets() -> list[UUID]:
    """Returns the tenants that ever had a wallet."""
    return list(
        Budget.with_wallets.filter(scope=Scope.WALLET)
        .order_by("tenant_id")
        .values_list("tenant_id", flat=True)
    )
