"""Installation, load and journal together; injects faults, waits for service, and lets the checker speak after each."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any

from budgets.stores.redis.keys import shard_of
from noburn.kit import ids
from tests.faults.faults import FAULTS, Fault, NotInjected
from tests.faults.installation import MONTH_SECONDS, Installation
from tests.faults.journal import Journal, hold_of
from tests.faults.load import Load, Unanswered

CUSTOMER_NANO, PROJECT_NANO = 400, 12_000
TENANTS = 4
CLIENTS = 12
QUIET_SECONDS = 60.0


class Harness:
    """One run. Use as a context; `results` is what docs/reliability.md is made of."""

    def __init__(self, *, seed: int, celery: bool, syscall_faults: bool, clients: int = CLIENTS) -> None:
        self.seed, self.chance = seed, random.Random(seed)
        self.journal = Journal()
        self.injected: Counter[str] = Counter()
        self.not_injected: Counter[str] = Counter()
        self.service: dict[str, list[float]] = defaultdict(list)
        self._clients = clients
        budgets = [
            f"customer:*:0.{CUSTOMER_NANO:09d}:total",
            f"project:*:0.{PROJECT_NANO:09d}:month",
            "tenant:*:1000:day",
        ]
        self.installation = Installation(
            tenants=[(f"t{number}", budgets) for number in range(TENANTS)],
            celery=celery,
            syscall_faults=syscall_faults,
        )

    def __enter__(self) -> Harness:
        self.installation.__enter__()
        try:
            self._people_it()
        except BaseException:
            self.installation.close()
            raise
        return self

    def _people_it(self) -> None:
        for made in self.installation.tenants:
            for scope, limit in (("customer", CUSTOMER_NANO), ("project", PROJECT_NANO)):
                self.journal.limits[made["tenant_id"], scope, 0] = limit
        self.load = Load(
            self.installation.tenants,
            [Path(str(front.listen)) for front in self.installation.fronts],
            self.journal,
            seed=self.seed,
            clients=self._clients,
            month_ms=MONTH_SECONDS * 1000,
        )
        self.load.go()
        self.wait_for_service()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if hasattr(self, "load"):
            self.load.stop()
        if kind is not None and (keep := os.environ.get("NOBURN_FAULT_LOGS")):
            os.system(f"cp -r {self.installation.path}/logs {keep}")
        self.installation.close()

    @staticmethod
    def _shard_of(tenant: dict[str, Any]) -> int:
        return shard_of(ids.decode(ids.TENANT, tenant["tenant_id"]))

    def shard(self) -> int:
        """The shard of one of the tenants."""
        return self._shard_of(self.chance.choice(self.installation.tenants))

    def need_celery(self) -> None:
        """Raises NotInjected where no worker runs."""
        if not self.installation.celery:
            raise NotInjected("no worker runs here")

    # --- a fault, and what must be true after it ---

    def inject(self, fault: Fault, *, seconds: float | None = None) -> bool:
        """Injects one fault, heals it and waits for service; returns whether it came to it."""
        try:
            work = fault.inject(self)
            next(work)
            time.sleep(fault.seconds if seconds is None else seconds)
            for _ in work:
                raise AssertionError(f"{fault.name} yields twice")
        except NotInjected:
            self.not_injected[fault.name] += 1
            return False
        self.service[fault.name].append(self.wait_for_service())
        self.injected[fault.name] += 1
        return True

    def wait_for_service(self) -> float:
        """Seconds until a call of a new customer of every tenant was decided, and its settlement recorded."""
        began = time.monotonic()

        async def probe() -> list[str]:
            import asyncio

            lives = [
                self.load.life(random.Random(self.chance.random()), fate="settle", fresh=True, tenant=tenant)
                for tenant in self.installation.tenants
            ]
            return await asyncio.gather(*lives)

        outcomes = self.load.call(probe())
        if "unanswered" in outcomes:
            raise Unanswered(f"no service: {outcomes}")
        return time.monotonic() - began

    def settle_down(self) -> None:
        """Ends all calls, and holds noburn to the journal and to its own checker. Raises AssertionError."""
        self.load.rest()
        deadline = time.monotonic() + QUIET_SECONDS
        while True:
            self.installation.ask("sweep")
            found = self.installation.ask("verify")
            quiet = "failed" not in found and not found["totals"]["open_holds"] and not found["differences"]
            if quiet and len(self.open_epochs()) == 64:
                break
            assert time.monotonic() < deadline, f"seed {self.seed}: {str(found)[:2000]}"
            time.sleep(0.2)
        assert found["totals"]["unapplied"] == found["totals"]["overdue"] == 0, found["totals"]
        rounds = self.installation.ask("check", seconds=10.0)
        assert rounds.get("differences") == [], f"seed {self.seed}: {str(rounds)[:2000]}"
        self.journal.check(self.recorded())
        assert not self.journal.lost, f"seed {self.seed}: {self.journal.lost[:5]}"
        assert not self.journal.over, f"seed {self.seed}: {self.journal.over[:5]}"

    def open_epochs(self) -> list[Any]:
        """The open epochs."""
        return self.installation.sql("SELECT shard FROM epochs WHERE state = 'open'")

    def recorded(self) -> dict[str, tuple[str, int]]:
        """What PostgreSQL has of the holds that the journal has not checked yet."""
        wanted = [ids.decode(ids.HOLD, hold) for hold in self.journal.unchecked]
        sql = "SELECT hold_id, state, cost_nano FROM hold_resolutions WHERE hold_id = ANY (%s)"
        return {hold_of(hold): (state, cost) for hold, state, cost in self.installation.sql(sql, wanted)}

    def totals(self) -> dict[str, Any]:
        """What a run ends with. Call it once everything has settled down."""
        # Settlements after a void are a named case in which a limit may be exceeded. What a correction took back was
        # spent before it, when calls may have been refused for it.
        sql = """WITH later AS (SELECT p.counter,
                    coalesce(sum(p.posted) FILTER (WHERE 'after_void' = ANY (r.flags)), 0)::bigint AS after_void,
                    coalesce(sum(greatest(0, p.first - p.posted)), 0)::bigint AS taken_back
                FROM hold_resolutions r, unnest(r.counters, r.first, r.posted) AS p (counter, first, posted)
                WHERE r.revision > 1 GROUP BY 1)
            SELECT c.tenant_id, c.subject, b.scope, c.limit_amount, c.spent, coalesce(sum(g.authority), 0)::bigint,
                coalesce((SELECT l.after_void FROM later l WHERE l.counter = c.counter_id), 0),
                coalesce((SELECT l.taken_back FROM later l WHERE l.counter = c.counter_id), 0)
            FROM counters c JOIN budgets_budget b ON b.tenant_id = c.tenant_id AND b.id = c.budget_id
            LEFT JOIN grants g ON g.tenant_id = c.tenant_id AND g.counter_id = c.counter_id
                AND (g.state <> 'live' OR g.epoch_id IN (SELECT epoch_id FROM epochs WHERE state <> 'open'))
            WHERE b.scope = 'customer' GROUP BY c.tenant_id, c.counter_id, b.scope"""
        rows = [
            {
                "tenant": ids.encode(ids.TENANT, tenant),
                "subject": f"{scope}:{subject}",
                "limit": limit,
                "spent": spent,
                "stranded": stranded,
                "after_void": after_void,
                "taken_back": taken_back,
            }
            for tenant, subject, scope, limit, spent, stranded, after_void, taken_back in self.installation.sql(
                sql
            )
            if f"{scope}:{subject}" not in self.journal.before_restore
        ]
        refusals = sum(len(amounts) for amounts in self.journal.refused.values())
        limits = sum(row["limit"] for row in rows)
        told = self.installation.sql("SELECT details FROM alerts_alert WHERE kind = 'drift'")
        for (details,) in told:
            print(f"an alert of drift: {details}")
        return {
            "counts": dict(self.journal.counts),
            "acknowledged": self.journal.settles,
            "lost": len(self.journal.lost),
            "over": len(self.journal.over),
            "budgets over": sum(
                row["spent"] + row["stranded"] - row["after_void"] > row["limit"] for row in rows
            ),
            "refused by a customer's budget": refusals,
            "falsely refused": self.journal.falsely_refused(rows),
            "limits": limits,
            "stranded": sum(row["stranded"] for row in rows),
            "drift alerts": len(told),
        }

    def told(self) -> dict[str, Any]:
        """This run's figures. Call it once everything has settled down."""
        counts, injected = self.journal.counts, Counter(self.injected)
        # What the clients do by themselves: each is one of its kind, those that were asked for among them.
        injected["settle, void and expiry at once"] = counts["race"]
        injected["settled after expiry"] = counts["late"]
        injected["client gone after its pre-flight"] = counts["abandoned"]
        injected["hold open over the end of a month"] = counts["open over the end of a month"]
        # Each answer that was lost is a fault of its own.
        for name, proxies in (
            ("gateways", self.installation.fronts),
            ("Redis", [self.installation.redis_proxy]),
            ("PostgreSQL", [self.installation.pg_proxy]),
        ):
            injected[f"answers of {name} lost"] = sum(proxy.lost_answers for proxy in proxies)
        return {
            "seed": self.seed,
            "at": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
            "injected": dict(sorted((+injected).items())),
            "not injected": dict(sorted(self.not_injected.items())),
            "service": {
                name: [round(s, 2) for s in seconds] for name, seconds in sorted(self.service.items())
            },
            **self.totals(),
        }

    def save(self, path: Path) -> None:
        """Adds this run's figures to a file of runs, one a line."""
        run = self.told()
        with path.open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(json.dumps({k: v for k, v in run.items() if k != "service"}, indent=1))


def table(*words: str) -> list[Fault]:
    """The faults whose names begin with one of these."""
    return [fault for name, fault in FAULTS.items() if name.startswith(words)]
