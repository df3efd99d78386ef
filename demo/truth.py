"""What really happened: the provider's own list of calls, noburn's ledger and counters, and whether they agree.

Amounts are nano-USD, whole. The prices come from `GET /v1/prices` and are multiplied here, so that noburn's
arithmetic is checked by another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

NANO = 10**9


def usd(nano: int) -> str:
    """Spells an amount: $0.0123, with the places that it needs."""
    return f"${Decimal(nano).scaleb(-9).normalize():f}"


def nano(amount: Decimal) -> int:
    """Returns USD as nano-USD. Raises ValueError when it has more than nine places."""
    scaled = amount * NANO
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} USD is no whole number of nano-USD")
    return int(scaled)


class Prices:
    """Standard prices of the models that the demo calls, by token."""

    def __init__(self, listed: Sequence[Mapping[str, Any]], models: Sequence[str]) -> None:
        self._by_model: dict[str, dict[str, Decimal]] = {
            item["model"]: {
                unit: Decimal(price["usd_per_million_tokens"]) / 1_000_000
                for unit, price in item["prices"].items()
                if "usd_per_million_tokens" in price
            }
            for item in listed
            if item["model"] in models and item["variant"] == "standard"
        }

    def cost(self, model: str, *, input_tokens: int, output_tokens: int) -> int:
        """Returns what a plain text call costs."""
        rates = self._by_model[model]
        return nano(input_tokens * rates["input_tokens"] + output_tokens * rates["output_tokens"])

    def billed(self, entry: Mapping[str, Any]) -> int:
        """Returns what the provider bills for one entry of its ledger. Raises ValueError for what is no text."""
        metered = entry["metered"]
        plain = {"input_tokens", "output_tokens"}
        if any(count for name, count in metered.items() if name not in plain):
            raise ValueError(f"the demo prices plain text alone, not {metered}")
        return self.cost(entry["model"], **{name: metered[name] for name in plain})


@dataclass(frozen=True)
class CounterState:
    """One counter of a budget as PostgreSQL has it."""

    subject: str
    limit: int
    spent: int
    stranded: int
    posted: int
    """The sum of the ledger's entries on this counter."""

    @property
    def room(self) -> int:
        """What calls could still spend, with nothing in flight."""
        return self.limit - self.spent - self.stranded


_COUNTERS = """
SELECT c.subject, c.limit_amount, c.spent,
    coalesce((SELECT sum(g.authority) FROM grants g JOIN epochs e ON e.epoch_id = g.epoch_id
        WHERE g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id
            AND (e.state <> 'open' OR g.state <> 'live')), 0)::bigint,
    coalesce((SELECT sum(d.delta) FROM ledger_entries l, unnest(l.counters, l.deltas) AS d (counter, delta)
        WHERE l.tenant_id = c.tenant_id AND d.counter = c.counter_id), 0)::bigint
FROM counters c WHERE c.budget_id = %s ORDER BY c.subject
"""


def counters_of(connection: psycopg.Connection[Any], budget_id: UUID) -> list[CounterState]:
    """Reads every counter of a budget, and what the ledger says about it."""
    return [CounterState(*row) for row in connection.execute(_COUNTERS, [budget_id]).fetchall()]


def costs_on_ledger(connection: psycopg.Connection[Any], budget_id: UUID) -> int:
    """Returns the cost of all calls on the ledger that fell under this budget."""
    row = connection.execute(
        """SELECT coalesce(sum(cost_nano), 0)::bigint FROM ledger_entries
        WHERE counters && (SELECT array_agg(counter_id) FROM counters WHERE budget_id = %s)""",
        [budget_id],
    ).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True)
class Refusal:
    """One refused call, as the SDK told it. `estimate` is the most it could have cost."""

    reason: str
    budget_id: str | None
    subject: str | None
    estimate: int | None
    text: str


def falsely_refused(refusals: Sequence[Refusal], counters: Mapping[str, Sequence[CounterState]]) -> int:
    """Counts the refusals for which there was room beside what was spent and stranded, with all holds resolved.

    `counters` are those of each budget, at rest. What was spent only grows, so room at the end was there all along.
    A refusal that names no budget of ours counts too: nothing justified it.
    """
    found = 0
    for refusal in refusals:
        candidates = counters.get(refusal.budget_id or "", ())
        mine = [c for c in candidates if len(candidates) == 1 or c.subject == refusal.subject]
        found += not mine or refusal.estimate is None or refusal.estimate <= mine[0].room
    return found


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scene, counted. `answered` is the sum of what settles answered, `metered` that of the ledger."""

    title: str
    asked: int
    allowed: int
    refused: Mapping[str, int] = field(default_factory=dict)
    """Refusals by reason."""
    unavailable: int = 0
    reached: int
    billed: int
    answered: int
    metered: int
    posted: int
    spent: int
    over: int
    falsely: int
    stranded: int

    def faults(self) -> list[str]:
        """Names every promise that these numbers break; empty when all are kept."""
        refused = sum(self.refused.values())
        promises = {
            f"{self.asked} asked, but {self.allowed} allowed, {refused} refused, {self.unavailable} undecided": (
                self.asked == self.allowed + refused + self.unavailable
            ),
            f"{self.reached} calls reached the provider, {self.allowed} were allowed": (
                self.reached == self.allowed
            ),
            f"the provider bills {usd(self.billed)}, the ledger has {usd(self.metered)}": (
                self.billed == self.metered
            ),
            f"settles answered {usd(self.answered)}, the ledger has {usd(self.metered)}": (
                self.answered == self.metered
            ),
            f"the counters say {usd(self.spent)} is spent, the ledger {usd(self.posted)}": (
                self.spent == self.posted == self.metered
            ),
            f"{usd(self.over)} was spent beyond a limit": self.over == 0,
            f"{self.falsely} calls were refused although there was room": self.falsely == 0,
            f"{self.refused.get('budget_busy', 0)} calls waited in vain for holds in flight": (
                "budget_busy" not in self.refused
            ),
        }
        return [f"{self.title}: {text}" for text, kept in promises.items() if not kept]


def total_of(rows: Sequence[Row]) -> Row:
    """Adds the scenes up."""
    return Row(
        title="Total",
        refused=dict(sum((Counter(row.refused) for row in rows), Counter())),
        **{
            name: sum(getattr(row, name) for row in rows)
            for name in Row.__dataclass_fields__
            if name not in ("title", "refused")
        },
    )
