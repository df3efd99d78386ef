"""A tenant's use at any time that a test likes: settlements booked by the ledger's own function, and rolled up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from budgets.stores.redis.keys import shard_of
from tests.budgets.comparison.traffic import roll
from tests.budgets.metering.ledger import resolve

NAMES = ("project", "end_user", "run", "plan", "reported_model", "price_id", "note")


@dataclass(slots=True)
class Book:
    """Books calls of one tenant as a gateway does. `owner` is a connection as the owner of the schema."""

    owner: psycopg.Connection[Any]
    tenant_id: UUID
    placed: dict[UUID, dict[str, Any]] = field(default_factory=dict, repr=False)
    wallets: dict[str, UUID] = field(default_factory=dict)
    """Counters that new calls of customers are held on."""

    def call(
        self,
        customer: str,
        at: datetime,
        *,
        cost_nano: int = 0,
        model: str = "openai/gpt-4o-mini",
        state: str = "settled",
        usage: Mapping[str, Any] | None = None,
        hold: UUID | None = None,
    ) -> UUID:
        """Books what became of one call; with `hold`, what became of it later. Returns the hold."""
        hold = hold or uuid4()
        provider, _, name = model.partition("/")
        on = [self.wallets[customer]] if customer in self.wallets else []
        held = self.placed.setdefault(
            hold,
            {
                "hold": hold,
                "month": at.date().replace(day=1).isoformat(),
                "tenant": self.tenant_id,
                "shard": shard_of(self.tenant_id),
                "epoch": self.tenant_id,
                "placed_at": int(at.timestamp() * 1000),
                "held_cost": cost_nano,
                "customer": customer,
                "provider": provider,
                "model": name,
                "key": "",
                "tags": {},
                **dict.fromkeys(NAMES, ""),
                "flags": [],
                "counters": on,
                **{name: [1 for _ in on] for name in ("incs", "held", "posted")},
            },
        )
        counted = state != "voided"
        used = dict(usage or {})
        said = {
            "state": state,
            "posted": [cost_nano if counted else 0 for _ in held["counters"]],
            "digest": uuid4().hex,
            "cost": cost_nano if counted else 0,
            "tokens": used.get("input_tokens", 0) + used.get("output_tokens", 0),
            "requests": int(counted),
            "usage": used if state == "settled" else None,
            "outcome": "ok" if counted else "void",
            "latency_ms": None,
            "origin": "priced",
        }
        told = resolve(self.owner, [{**held, **said}])
        assert told[str(hold)] in ("first", "corrected"), told
        return hold

    def rerate(self, hold: UUID, by_nano: int) -> None:
        """Books that a settled call costs more, or less: as `nb_rerate` writes it, which budgets in USD alone count."""
        self.owner.execute(
            """WITH r AS (UPDATE hold_resolutions SET revision = revision + 1, cost_before_nano = cost_nano,
                cost_nano = cost_nano + %s, rerated_nano = rerated_nano + %s, reratings = reratings + 1
                WHERE hold_id = %s RETURNING *)
            INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, customer, provider,
                model, cost_origin, cost_nano, tokens, requests, counters, deltas, rerating_id)
            SELECT l.hold_id, l.placed_month, r.revision, l.tenant_id, 'rerated', l.placed_at, l.customer, l.provider,
                l.model, l.cost_origin, %s, 0, 0, r.counters, array_fill(0::bigint, ARRAY[cardinality(r.counters)]), %s
            FROM r JOIN ledger_entries l ON l.hold_id = r.hold_id AND l.placed_month = r.placed_month
                AND l.kind = 'settled'""",
            [by_nano, by_nano, hold, by_nano, uuid4()],
        )

    def roll(self) -> None:
        """Adds up all that was booked."""
        roll()
