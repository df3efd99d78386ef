"""The whole money path in this process: a gateway, an operator, and direct hands on PostgreSQL and Redis.

The event loop runs inside calls alone, so nothing happens behind a test's back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import redis as redis_client
from django.conf import settings
from redis.cluster import ClusterNode, RedisCluster

from budgets.domain.authorization import Hold, Keyring
from budgets.domain.demands import TENANT_SUBJECT
from budgets.gateway.app import GatewayApp
from budgets.gateway.config import GatewayConfig
from budgets.models import Budget
from budgets.services.budgets import BudgetChanges, NewBudget, create_budget, edit_budget
from budgets.services.operations import Operations
from budgets.services.overrides import set_override
from budgets.services.price_seed import seed_prices
from budgets.services.sweeping import Sweep
from budgets.services.verification import Verification
from budgets.stores.postgres.money import EpochRow
from budgets.stores.redis.keys import Keys, shard_of
from noburn.kit.redis_cluster import is_cluster, seeds_of
from noburn.runtime.usage import use_servers
from tenants.services.keys import IssuedKey, issue_key
from tenants.services.tenants import create_tenant
from tests.support.asgi import Answer, send
from tests.support.processes import administrators

T = TypeVar("T")
POLLS_MAX = 300
ALL_SCOPES = ("preflight", "settle", "read")


def gateway_config() -> GatewayConfig:
    """A gateway on this test process's servers."""
    return GatewayConfig(
        database_url=settings.DATABASE_GATEWAY_URL,
        redis_url=settings.REDIS_GATEWAY_URL,
        pepper=settings.NOBURN_PEPPER,
        signing_keys=settings.NOBURN_SIGNING_KEYS,
        signing_kid=settings.NOBURN_SIGNING_KID,
        base_url=settings.BASE_URL,
    )


def sync_redis() -> redis_client.Redis:
    """A hand on this test's Redis, or on all masters of its cluster."""
    if not is_cluster(settings.REDIS_URL):
        return redis_client.Redis.from_url(administrators(settings.REDIS_URL), decode_responses=True)
    seeds = [urlsplit(seed) for seed in seeds_of(settings.REDIS_URL)]
    nodes = [ClusterNode(str(seed.hostname), int(seed.port or 0)) for seed in seeds]  # type: ignore[no-untyped-call]
    # It has the same methods; what a test asks of it names a key.
    return cast(redis_client.Redis, RedisCluster(startup_nodes=nodes, decode_responses=True))


def usd(amount: str) -> int:
    """Nano-USD of an amount such as `$0.25`."""
    whole, _, places = amount.removeprefix("$").partition(".")
    return int(whole) * 10**9 + int((places + "0" * 9)[:9])


class World:
    """One gateway and one operator."""

    def __init__(self) -> None:
        seed_prices()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.app = GatewayApp(gateway_config())
        self.redis = sync_redis()
        self.owner = psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True)
        self.keyring = Keyring(keys=settings.NOBURN_SIGNING_KEYS, kid=settings.NOBURN_SIGNING_KID)
        self.operations = self.run(self._start())

    async def _start(self) -> Operations:
        operations = await self._stack.enter_async_context(
            Operations.connected(database_url=settings.DATABASE_URL, redis_url=settings.REDIS_CONTROL_URL)
        )
        await operations.recover()
        await self.app.startup()
        return operations

    def close(self) -> None:
        """Ends the gateway and every connection."""
        self.run(self._stop())
        self._runner.close()
        self.redis.close()
        self.owner.close()

    async def _stop(self) -> None:
        await self.app.shutdown()
        await self._stack.aclose()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs on the one event loop until done."""
        return self._runner.run(work)

    def all(self, works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Runs all at once; answers in their order."""

        async def together() -> list[T]:
            return list(await asyncio.gather(*works))

        return self.run(together())

    def request(self, method: str, path: str, **options: Any) -> Answer:
        """One request to the gateway."""
        return self.run(send(self.app, method, path, **options))

    def recover(self) -> int:
        """One round of the recovery controller; the number of epochs that it opened."""
        return self.run(self.operations.recover())

    def sweep(self) -> Sweep:
        """One sweep."""
        return self.run(self.operations.sweep())

    def account(self, who: str, **options: Any) -> Account:
        """A tenant of its own."""
        slug = f"{who}-{uuid4().hex[:10]}"
        now = datetime.now(UTC)
        tenant = create_tenant(
            slug=slug, name=who.title(), email=f"{slug}@example.com", actor="test", now=now
        ).tenant
        return Account(self, tenant.pk)

    def redis_ms(self) -> int:
        """The time by Redis, in milliseconds."""
        said: Any = self.redis.time()
        # A cluster answers for each of its servers: here they share a clock.
        seconds, micros = next(iter(said.values())) if isinstance(said, dict) else said
        return int(seconds) * 1000 + int(micros) // 1000

    def sql(self, text: str, *params: object) -> list[tuple[Any, ...]]:
        """Rows of a statement run as the owner of the schema; none for a statement without rows."""
        cursor = self.owner.execute(text, params)
        return cursor.fetchall() if cursor.description else []

    def lose_redis(self, *, scripts: bool = True) -> None:
        """Loses what a kill -9 of a Redis without a disk loses: the data, and the scripts."""
        if (nodes := getattr(self.redis, "nodes_manager", None)) is not None:
            # These commands go to whom the client takes for masters, which another story may have changed.
            nodes.initialize()
        self.redis.flushall()
        if scripts:
            self.redis.script_flush()

    def kill_redis(self) -> None:
        """Kills the server without a word and starts it again on what it left."""
        pid = int(self.redis.info("server")["process_id"])
        os.kill(pid, signal.SIGKILL)
        use_servers()


class Account:
    """One tenant, seen from outside through its key, and from inside by its counters."""

    def __init__(self, world: World, tenant_id: UUID) -> None:
        self.world = world
        self.tenant_id = tenant_id
        self.shard = shard_of(tenant_id)
        self.budgets: dict[str, Budget] = {}
        self.issued = self.key()

    @property
    def secret(self) -> str:
        """The first key."""
        return self.issued.secret

    def key(self, scopes: Iterable[str] = ALL_SCOPES, **options: Any) -> IssuedKey:
        """Another key."""
        now = datetime.now(UTC)
        return issue_key(
            tenant_id=self.tenant_id, name="test", scopes=list(scopes), actor="test", now=now, **options
        )

    def budget(self, name: str, limit: str | int, **fields: Any) -> Budget:
        """Creates a budget; without fields in USD, forever, for the one customer `name`."""
        chosen = {"scope": "customer", "subject": name, "window": "total", **fields}
        if chosen["scope"] == "tenant":
            chosen["subject"] = "*"
        limit = limit.removeprefix("$") if isinstance(limit, str) else limit
        made = create_budget(
            tenant_id=self.tenant_id,
            budget=NewBudget(name=name, limit=limit, **chosen),
            actor="test",
            now=datetime.now(UTC),
        )
        self.budgets[name] = made
        return made

    def limit(self, name: str, limit: str | int) -> None:
        """Changes a budget's limit."""
        self.edit(name, limit=limit.removeprefix("$") if isinstance(limit, str) else limit)

    def edit(self, name: str, **changes: Any) -> None:
        """Edits a budget."""
        self.budgets[name] = edit_budget(
            tenant_id=self.tenant_id,
            budget_id=self.budgets[name].pk,
            changes=BudgetChanges(**changes),
            actor="test",
            now=datetime.now(UTC),
        )

    def override(self, name: str, subject: str, limit: str | int) -> None:
        """Gives one subject of a template a limit of its own."""
        set_override(
            tenant_id=self.tenant_id,
            budget_id=self.budgets[name].pk,
            subject=subject,
            limit=limit.removeprefix("$") if isinstance(limit, str) else limit,
            actor="test",
            now=datetime.now(UTC),
        )

    def send(self, path: str, body: object, *, key: str | None = "new", **options: Any) -> Any:
        """A POST that is under way once awaited."""
        options.setdefault("secret", self.secret)
        return send(self.world.app, "POST", path, body=body, idempotency_key=key, **options)

    def call(self, amount: str | None = None, **fields: Any) -> dict[str, Any]:
        """A pre-flight's body: an own estimate for a tool without a price, or the model that `fields` name."""
        customer = fields.pop("customer", "acme")
        body: dict[str, Any] = {"subject": {"customer": customer}, **fields}
        if amount is not None:
            body = {
                "model": "own-tool",
                "max_output_tokens": 100,
                "cost_usd": amount.removeprefix("$"),
                **body,
            }
        return body

    def placing(self, amount: str | None = None, *, key: str | None = "new", **fields: Any) -> Any:
        """A pre-flight that is under way once awaited."""
        return self.send("/v1/preflight", self.call(amount, **fields), key=key)

    def place(self, amount: str | None = None, *, key: str | None = "new", **fields: Any) -> Answer:
        """A pre-flight."""
        answer: Answer = self.world.run(self.placing(amount, key=key, **fields))
        return answer

    def settling(self, placed: Answer, amount: str | None = None, **fields: Any) -> Any:
        """A settlement that is under way once awaited; without an amount its usage is `fields`' or null."""
        body = {"authorization": placed["authorization"], "usage": None, **fields}
        if amount is not None:
            body["cost_usd"] = amount.removeprefix("$")
        return self.send("/v1/settle", body)

    def settle(self, placed: Answer, amount: str | None = None, **fields: Any) -> Answer:
        """A settlement."""
        answer: Answer = self.world.run(self.settling(placed, amount, **fields))
        return answer

    def voiding(self, placed: Answer) -> Any:
        """A void that is under way once awaited."""
        return self.send("/v1/void", {"authorization": placed["authorization"]})

    def void(self, placed: Answer) -> Answer:
        """A void."""
        answer: Answer = self.world.run(self.voiding(placed))
        return answer

    def extend(self, placed: Answer, ttl_seconds: int) -> Answer:
        """An extension from now."""
        answer: Answer = self.world.run(
            self.send(
                f"/v1/holds/{placed['hold']['id']}/extend",
                {"authorization": placed["authorization"], "ttl_seconds": ttl_seconds},
            )
        )
        return answer

    def remaining(self, name: str, customer: str | None = None) -> int | str:
        """What /v1/remaining says of one budget: nano-USD, or a count."""
        answer = self.world.request("GET", f"/v1/remaining?customer={customer or name}", secret=self.secret)
        assert answer.status == 200, answer
        from noburn.kit import ids

        wanted = ids.encode("bud", self.budgets[name].pk)
        (found,) = [b for b in answer["budgets"] if b["id"] == wanted]
        if "remaining_usd" in found:
            return usd(found["remaining_usd"])
        metric = self.budgets[name].metric
        return int(found[f"remaining_{metric}"])

    def verify(self) -> Verification:
        """Recomputes this tenant's figures from their sources, at rest."""
        self.acknowledged()
        return self.world.run(self.world.operations.verify(self.tenant_id))

    def ledger(self) -> list[dict[str, Any]]:
        """This tenant's ledger, oldest first."""
        names = (
            "kind",
            "revision",
            "cost",
            "tokens",
            "requests",
            "flags",
            "deltas",
            "note",
            "outcome",
            "model",
        )
        rows = self.world.sql(
            """SELECT kind, revision, cost_nano, tokens, requests, flags, deltas, note, outcome, model
            FROM ledger_entries WHERE tenant_id = %s ORDER BY recorded_at, hold_id, revision""",
            self.tenant_id,
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def counter(self, name: str, subject: str | None = None) -> dict[str, Any]:
        """One counter as PostgreSQL has it, with the sum of its authority and what of that is stranded."""
        budget = self.budgets[name]
        wanted = subject or (budget.subject if budget.scope != "tenant" else TENANT_SUBJECT)
        row = self.world.sql(
            """SELECT c.counter_id, c.limit_amount, c.spent, c.opening, coalesce(sum(g.authority), 0)::bigint,
                coalesce(sum(g.authority) FILTER (WHERE e.state <> 'open' OR g.state <> 'live'), 0)::bigint
            FROM counters c LEFT JOIN grants g USING (tenant_id, counter_id) LEFT JOIN epochs e USING (epoch_id)
            WHERE c.tenant_id = %s AND c.budget_id = %s AND c.subject = %s
            GROUP BY c.tenant_id, c.counter_id ORDER BY c.starts_at DESC LIMIT 1""",
            self.tenant_id,
            budget.pk,
            wanted,
        )[0]
        names = ("id", "limit", "spent", "opening", "authority", "stranded")
        return dict(zip(names, row, strict=True))

    def acknowledged(self) -> bool:
        """Lets the gateway book the acknowledgements of its load messages, which it does a moment later.

        False if some never come: those are sent again by a sweep.
        """
        unbooked = """SELECT 1 FROM grants JOIN epochs USING (epoch_id) WHERE tenant_id = %s
            AND epochs.state = 'open' AND grants.state = 'live' AND acked_seq < seq"""
        for _ in range(POLLS_MAX):
            if not self.world.sql(unbooked, self.tenant_id):
                return True
            self.world.request("GET", "/readyz")
        return False

    def hold_of(self, placed: Answer) -> Hold:
        """What an authorization carries."""
        return self.world.keyring.verify(placed["authorization"])

    def epoch(self) -> EpochRow:
        """The current epoch of this tenant's shard."""
        status = self.world.run(self.world.operations.status())
        return next(row for row in status.epochs if row.shard == self.shard)

    def keys(self) -> Keys:
        """The Redis keys of the current epoch."""
        return Keys(shard=self.shard, epoch_id=self.epoch().epoch_id)

    def expire(self, placed: Answer) -> None:
        """Lets a hold's time run out, by setting its expiry back in Redis."""
        hold = self.hold_of(placed)
        keys = Keys(shard=self.shard, epoch_id=hold.body.epoch_id)
        name, before = keys.hold(hold.body.hold_id), self.world.redis_ms() - 1
        assert self.world.redis.hset(name, "ex", before) == 0
        assert self.world.redis.zadd(keys.expiries, {name: before}) == 0

    def stranded(self) -> list[dict[str, Any]]:
        """This tenant's stranded authority."""
        status = self.world.run(self.world.operations.status())
        return [row for row in status.stranded if row["tenant"] == self.tenant_id]
