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
    placed: dict[UUID, dict[str, Any]] = field(default_factory=dict)

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
                **{name: [] for name in ("flags", "counters", "incs", "held", "posted")},
            },
        )
        counted = state != "voided"
        used = dict(usage or {})
        said = {
            "state": state,
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

    def roll(self) -> None:
        """Adds up all that was booked."""
        roll()
