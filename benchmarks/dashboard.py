"""The dashboard's pages over five million rows of usage and a hundred thousand customers of one tenant.

`.venv/bin/python -m benchmarks.dashboard`. Rows are as the roller, gateways and the money path would have left them.
Each page is asked of Django inside this process, by turns; what is told is the median of its server time, in milliseconds
and as a ratio to a plain `SELECT` of one row through the same connection, in the same run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg

USAGE_ROWS = 5_000_000
CUSTOMERS = 100_000
DAYS = 60
DECISIONS = 300_000
LEDGER = 500_000
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-haiku-4-5", "claude-sonnet-4-5", "gemini-2.5-flash")
TARGET_MS = 300
ROUNDS = 7

Connection = psycopg.Connection[Any]


class Filled:
    """One tenant's tables, filled as of `now`."""

    def __init__(
        self, owner: Connection, tenant_id: UUID, *, usage: int, customers: int, now: datetime
    ) -> None:
        self._owner, self._tenant, self._now = owner, tenant_id, now
        self._usage, self._customers = usage, customers
        self._chance = random.Random(7)
        self._today = now.replace(hour=0, minute=0, second=0, microsecond=0)

    def fill(self) -> None:
        """Writes everything and lets the planner see it."""
        self._copy_customers()
        for grain in ("days", "hours"):
            self._copy_usage(grain)
        self._copy_totals()
        self._copy_counters()
        self._copy_decisions()
        self._copy_ledger()
        self._owner.execute("VACUUM ANALYZE")

    def _copy_customers(self) -> None:
        with self._owner.cursor().copy(
            "COPY tenants_customer (id, tenant_id, external_id, name, created_at) FROM STDIN"
        ) as copy:
            for number in range(self._customers):
                copy.write_row(
                    (uuid4(), self._tenant, f"cus-{number:06}", f"Customer {number} Ltd", self._now)
                )

    def _copy_usage(self, grain: str) -> None:
        """Nine rows of ten are days, the others hours. Made by the server itself, which is how millions come soon."""
        rows = self._usage * 9 // 10 if grain == "days" else self._usage // 10
        bucket = "%(today)s::timestamptz - make_interval(days => (a %% 60)::integer)"
        if grain == "hours":
            bucket = (
                "date_trunc('hour', %(now)s::timestamptz, 'UTC') - make_interval(hours => (a * 7)::integer)"
            )
        self._owner.execute(
            f"""INSERT INTO usage_{grain} (grain, tenant_id, bucket, key, project, customer, end_user, plan, api_key,
                provider, model, tag, value, cost_nano, presumed_nano, requests, errors, tokens, input_tokens,
                output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens,
                audio_input_tokens, audio_output_tokens, images, tool_calls, latency_ms, latencies)
            SELECT '{grain}', %(tenant)s, {bucket}, gen_random_uuid(), 'default', 'cus-' || lpad(n::text, 6, '0'), '', '',
                '', 'openai', (%(models)s::text[])[1 + (n + a) %% 5], '', '', 1000 + (random() * 5000000)::bigint, 0, 10,
                0, 900, 700, 200, 0, 0, 0, 0, 0, 0, 0, 0, 8000, 10
            FROM generate_series(0, %(customers)s - 1) AS n, generate_series(0, %(each)s - 1) AS a""",
            {
                "tenant": self._tenant,
                "today": self._today,
                "now": self._now,
                "models": list(MODELS),
                "customers": self._customers,
                "each": max(1, rows // self._customers),
            },
        )

    def _copy_totals(self) -> None:
        for grain, step, count in (
            ("total_days", timedelta(days=1), DAYS),
            ("total_hours", timedelta(hours=1), 24 * 32),
        ):
            begin = (
                self._today if grain == "total_days" else self._now.replace(minute=0, second=0, microsecond=0)
            )
            rows = [
                self._row(
                    grain,
                    begin - step * at,
                    "",
                    model,
                    self._customers // (1 if grain == "total_days" else 24),
                )
                for at in range(count)
                for model in MODELS
            ]
            with self._owner.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO usage_rollups VALUES ({', '.join(['%s'] * len(rows[0]))})",
                    rows,
                )

    def _row(self, grain: str, bucket: datetime, customer: str, model: str, many: int) -> tuple[Any, ...]:
        cost = self._chance.randrange(1_000, 5_000_000) * many
        provider = "openai" if model.startswith("gpt") else "anthropic"
        counts = (10 * many, 0, 900 * many, 700 * many, 200 * many, *([0] * 8), 8_000 * many, 10 * many, 0)
        names = ("default", customer, "", "", "", provider, model, "", "")
        return (grain, self._tenant, bucket, uuid4(), *names, cost, 0, *counts)

    def _copy_counters(self) -> None:
        """Every customer stands under the template of a month."""
        (budget,) = self._owner.execute(
            "SELECT id FROM budgets_budget WHERE tenant_id = %s AND scope = 'customer' ORDER BY id LIMIT 1",
            [self._tenant],
        ).fetchall()
        month = self._today.replace(day=1)
        after = (month + timedelta(days=32)).replace(day=1)
        with self._owner.cursor().copy(
            """COPY counters (tenant_id, counter_id, budget_id, subject, starts_at, ends_at, limit_amount, budget_version,
                spent, opening) FROM STDIN"""
        ) as copy:
            for number in range(self._customers):
                spent = self._chance.randrange(0, 11_000_000_000)
                copy.write_row(
                    (
                        self._tenant,
                        uuid4(),
                        budget[0],
                        f"cus-{number:06}",
                        month,
                        after,
                        10_000_000_000,
                        1,
                        spent,
                        0,
                    )
                )

    def _copy_decisions(self) -> None:
        with self._owner.cursor().copy(
            """COPY decisions (tenant_id, id, decided_at, reason, api_key, policy_version, project, customer, provider,
                model, input_tokens, n, images, audio, fit, wait_ms, waited_ms, ttl_seconds, estimate_nano) FROM STDIN"""
        ) as copy:
            for number in range(DECISIONS):
                at = self._now - timedelta(seconds=self._chance.uniform(0, 29 * 86_400))
                milliseconds = int(at.timestamp() * 1000)
                id_ = UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | number)
                reason = "budget_exceeded" if number % 3 == 0 else None
                names = ("default", f"cus-{number % self._customers:06}", "openai", "gpt-4o")
                copy.write_row(
                    (
                        self._tenant,
                        id_,
                        at,
                        reason,
                        uuid4(),
                        1,
                        *names,
                        1200,
                        1,
                        0,
                        False,
                        False,
                        0,
                        0,
                        120,
                        480_000,
                    )
                )

    def _copy_ledger(self) -> None:
        with self._owner.cursor().copy(
            """COPY ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, project, customer,
                provider, model, cost_nano, tokens, requests, counters, deltas) FROM STDIN"""
        ) as copy:
            for number in range(LEDGER):
                at = self._now - timedelta(seconds=self._chance.uniform(0, DAYS * 86_400))
                names = ("default", f"cus-{number % self._customers:06}", "openai", "gpt-4o")
                copy.write_row(
                    (
                        uuid4(),
                        at.date().replace(day=1),
                        1,
                        self._tenant,
                        "settled",
                        at,
                        *names,
                        480_000,
                        900,
                        1,
                        [],
                        [],
                    )
                )


def by_turns(calls: dict[str, Callable[[], Any]]) -> Iterator[tuple[str, list[float]]]:
    """Milliseconds of each call, after one that warms it up, by turns so that the machine's moods strike all of them."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if turn:
                found[name].append((time.perf_counter() - begun) * 1000)
    yield from found.items()


def pages_of(tenant_id: UUID) -> dict[str, Callable[[], Any]]:
    """The pages themselves, as their owner gets them: routing, session, rights, queries, template."""
    from django.test import Client

    from budgets.models import Budget
    from noburn.kit import ids
    from tenants.models import Customer, Member, Tenant

    tenant, client = Tenant.objects.get(pk=tenant_id), Client()
    client.force_login(Member.objects.select_related("user").filter(tenant=tenant)[0].user)
    customer = Customer.objects.get(tenant=tenant, external_id="cus-000123")
    budget = Budget.objects.filter(tenant=tenant, scope="customer")[0]
    paths = (
        "settings",
        "overview",
        "usage",
        "usage?by=model",
        "usage?by=customer",
        "usage?by=day&customer=cus-000123",
        "usage/ledger",
        "usage/decisions",
        "usage/decisions?decision=deny",
        "customers",
        "customers?search=99123",
        "customers?search=nobody",
        f"customers/{ids.encode(ids.CUSTOMER, customer.pk)}",
        "budgets",
        f"budgets/{ids.encode(ids.BUDGET, budget.pk)}",
    )

    def get(path: str) -> None:
        answer = client.get(f"/t/{tenant.slug}/{path}", headers={"Host": "localhost"})
        assert answer.status_code == 200, (path, answer.status_code)

    return {f"page {path.partition('_')[0]}": partial(get, path) for path in paths}


def calls_of(tenant_id: UUID, now: datetime) -> dict[str, Callable[[], Any]]:
    """The queries behind each page, and the pages themselves."""
    from budgets.models import Budget
    from budgets.queries.spending import of_customers
    from budgets.services import figures
    from tenants.models import Tenant
    from tenants.queries.customers import CustomerFilter, customers

    tenant = Tenant.objects.get(pk=tenant_id)
    month = figures.month_of(tenant, now)
    assert month.ends_at is not None
    since, until = month.starts_at, month.ends_at
    names = [f"cus-{number:06}" for number in range(500, 550)]

    def figure(kind: str) -> figures.Shown:
        return figures.figure(tenant=tenant, kind=kind, now=datetime.now(UTC))

    return {
        "one row": lambda: Budget.objects.filter(tenant_id=tenant_id).first(),
        "customers, first page": lambda: customers(
            wanted=CustomerFilter(tenant_id=tenant_id), after="", limit=51
        ),
        "customers, a page far on": lambda: customers(
            wanted=CustomerFilter(tenant_id=tenant_id), after="cus-090000", limit=51
        ),
        "customers, search in the middle": lambda: customers(
            wanted=CustomerFilter(tenant_id=tenant_id, search="99123"), after="", limit=51
        ),
        "customers, search without a hit": lambda: customers(
            wanted=CustomerFilter(tenant_id=tenant_id, search="nobody"), after="", limit=51
        ),
        "50 customers' month": lambda: of_customers(
            tenant_id=tenant_id, names=names, since=since, until=until
        ),
        **{f"figure {kind}": partial(figure, kind) for kind in figures.KINDS},
    }


def measure(*, usage: int, customers: int) -> dict[str, list[float]]:
    """Starts PostgreSQL and Valkey in a home of their own, fills a tenant, and asks for everything."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from budgets.services.budgets import NewBudget, create_budget
    from noburn.runtime.usage import leave_servers, use_servers
    from tenants.services.tenants import create_tenant

    use_servers()
    try:
        call_command("migrate", verbosity=0, interactive=False)
        now = datetime.now(UTC)
        tenant_id = create_tenant(
            slug="bench", name="Bench", email="b@example.com", actor="bench", now=now
        ).tenant.pk
        for scope, limit in (("customer", "10"), ("tenant", "100000")):
            budget = NewBudget(scope=scope, window="month", limit=limit)
            create_budget(tenant_id=tenant_id, budget=budget, actor="bench", now=now)
        begun = time.perf_counter()
        with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner:
            Filled(owner, tenant_id, usage=usage, customers=customers, now=now).fill()
        print(f"{usage:,} rows of usage, {customers:,} customers, in {time.perf_counter() - begun:.0f} s")
        return dict(by_turns({**calls_of(tenant_id, now), **pages_of(tenant_id)}))
    finally:
        connections.close_all()
        leave_servers(wait=True)


def main() -> int:
    """Measures in a home of its own and prints a table; fails if a page takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=USAGE_ROWS, help="rows of usage")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nbb-", dir="/tmp") as home:
        os.environ.update(
            {"NOBURN_HOME": home, "DJANGO_SETTINGS_MODULE": "noburn.settings", "NOBURN_DURABLE": "0"}
        )
        measured = measure(usage=asked.rows, customers=asked.customers)
    base = statistics.median(measured["one row"])
    print("| page or query | ms, median | least | of one row's |\n|---|---|---|---|")
    for name, taken in measured.items():
        median = statistics.median(taken)
        print(f"| {name} | {median:.1f} | {min(taken):.1f} | {median / base:.0f} |")
    slow = [name for name, taken in measured.items() if statistics.median(taken) > TARGET_MS]
    if slow:
        print(f"slower than {TARGET_MS} ms: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
