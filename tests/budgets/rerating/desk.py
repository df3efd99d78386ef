"""Calls of one tenant at prices that change, and its re-ratings, done as a worker does them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from budgets.models import PriceOverride, Rerating
from budgets.services import reratings
from budgets.services.price_overrides import (
    NewPriceOverride,
    OverridePrice,
    create_price_override,
    end_price_override,
)
from budgets.services.reratings import NewRerating
from tests.budgets.comparison.traffic import roll
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

DAY = timedelta(days=1)
USAGE = {"input_tokens": 1_000, "output_tokens": 500}
PATH = "/v1/reratings"


def now() -> datetime:
    return datetime.now(UTC)


class Desk:
    """A tenant with a model of its own, of which a million tokens of input and output cost what `price` said last."""

    def __init__(self, account: Account) -> None:
        self.account, self.world = account, account.world
        self.model = f"own-{uuid4().hex[:10]}"
        self.standing: PriceOverride | None = None

    def price(self, usd_per_million: str) -> datetime:
        """Lets a token cost so much from now on; returns a moment at which it does."""
        if self.standing is not None:
            end_price_override(
                tenant_id=self.account.tenant_id, override_id=self.standing.pk, actor="test", now=now()
            )
        at = now()
        # A millionth of it, without a float: six places further right.
        whole, _, places = usd_per_million.partition(".")
        digits = f"{whole}{places}".rjust(len(places) + 7, "0")
        price = f"{digits[: -6 - len(places)]}.{digits[-6 - len(places) :]}"
        self.standing = create_price_override(
            tenant_id=self.account.tenant_id,
            override=NewPriceOverride(
                provider="openai",
                model=self.model,
                prices=tuple(
                    OverridePrice(unit=unit, price=price) for unit in ("input_tokens", "output_tokens")
                ),
                effective_from=at,
            ),
            actor="test",
            now=at,
        )
        return at

    def place(self, **fields: Any) -> Answer:
        """A hold for a call of at most 4,000 tokens."""
        fields = {
            "model": self.model,
            "provider": "openai",
            "input_tokens": 2_000,
            "max_output_tokens": 2_000,
            **fields,
        }
        placed = self.account.place(**fields)
        assert placed.decision == "allow", placed
        return placed

    def call(self, usage: dict[str, Any] | None = None, **fields: Any) -> Answer:
        """A call from pre-flight to settlement; the pre-flight's answer."""
        told = {"amount": fields.pop("cost_usd")} if "cost_usd" in fields else {}
        placed = self.place(**fields)
        settled = self.account.settle(placed, usage=usage or USAGE, **told)
        assert settled.status == 200, settled
        return placed

    def preview(self, **fields: Any) -> Rerating:
        """A preview of the last day, made to its end."""
        fields = {"starts_at": now() - DAY, "reason": "a test", **fields}
        row = reratings.request_rerating(
            tenant_id=self.account.tenant_id, wanted=NewRerating(**fields), actor="command:test", now=now()
        )
        return self.worked(row)

    def worked(self, row: Rerating) -> Rerating:
        """Does what there is to do of one re-rating."""
        reratings.work(now=now(), seconds=60, rerating_id=row.pk)
        row.refresh_from_db()
        return row

    def apply(self, row: Rerating) -> Rerating:
        """Applies a preview to its end."""
        applied = reratings.apply_rerating(
            tenant_id=self.account.tenant_id, rerating_id=row.pk, actor="command:test", now=now()
        )
        return self.worked(applied)

    def rerate(self, **fields: Any) -> Rerating:
        """A preview, and its application."""
        return self.apply(self.preview(**fields))

    def ledger(self) -> list[tuple[str, int, int, int]]:
        """Kind, revision, cost in nano-USD and requests of each entry, in order."""
        return [(row["kind"], row["revision"], row["cost"], row["requests"]) for row in self.account.ledger()]

    def spent(self) -> int:
        """What the whole ledger adds up to."""
        return sum(row["cost"] for row in self.account.ledger())

    def exact(self) -> None:
        """Everything is as its sources say: counters, grants, Redis, rollups."""
        self.world.sweep()
        assert self.account.verify().differences == ()
        roll()
        assert self.world.sql("SELECT * FROM nb_verify_usage(%s)", self.account.tenant_id) == []

    def usage(self) -> tuple[int, int]:
        """Cost and requests by the rollups."""
        roll()
        found = self.world.sql(
            """SELECT coalesce(sum(cost_nano), 0)::bigint, coalesce(sum(requests), 0)::bigint FROM usage_rollups
            WHERE tenant_id = %s AND grain = 'total_days'""",
            self.account.tenant_id,
        )
        return found[0][0], found[0][1]

    def api(self, *scopes: str) -> Api:
        """The management API, with a key."""
        return Api(secret=self.account.key(scopes or ("read", "manage")).secret)

    def bulk(self, count: int, *, price_id: str, cost: int, usage: dict[str, int], **names: str) -> None:
        """Books settled calls straight into the ledger, on the counter of budget `all` if there is one."""
        counters = self.world.sql(
            """SELECT c.counter_id, g.incarnation FROM counters c JOIN grants g USING (tenant_id, counter_id)
            JOIN budgets_budget b ON b.id = c.budget_id WHERE c.tenant_id = %s AND b.metric = 'usd' LIMIT 1""",
            self.account.tenant_id,
        )
        at, epoch = now(), self.account.epoch().epoch_id
        item = {
            "month": at.date().replace(day=1).isoformat(),
            "tenant": self.account.tenant_id,
            "shard": self.account.shard,
            "epoch": epoch,
            "state": "settled",
            "digest": "00",
            "older": None,
            "flags": [],
            "counters": [row[0] for row in counters],
            "incs": [row[1] for row in counters],
            "held": [0 for _ in counters],
            "posted": [cost for _ in counters],
            "held_cost": cost,
            "cost": cost,
            "tokens": sum(usage.values()),
            "requests": 1,
            "placed_at": int(at.timestamp() * 1000),
            "key": "",
            "project": "default",
            "customer": "acme",
            "end_user": "",
            "run": "",
            "plan": "",
            "tags": {},
            "provider": "openai",
            "model": self.model,
            "reported_model": "",
            "price_id": price_id,
            "origin": "priced",
            "usage": usage,
            "outcome": "ok",
            "latency_ms": None,
            "note": "",
            **names,
        }
        for first in range(0, count, 500):
            items = [{**item, "hold": uuid4()} for _ in range(min(500, count - first))]
            self.world.sql("SELECT nb_resolve(%s::jsonb)", msgspec.json.encode(items).decode())
