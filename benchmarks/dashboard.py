"""The dashboard's pages over five million rows of usage and a hundred thousand customers of one tenant.

`.venv/bin/python -m benchmarks.dashboard`. Rows are written by COPY, as the roller, gateways and the money path would
have left them. Each page is asked of Django inside this process, by turns; what is told is the median of its server time,
in milliseconds and as a ratio to a plain `SELECT` of one row through the same connection, in the same run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg

from benchmarks.system import System

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
        """Nine rows of ten are days, the others hours."""
        rows = self._usage * 9 // 10 if grain == "days" else self._usage // 10
        columns = """grain, tenant_id, bucket, key, project, customer, end_user, plan, api_key, provider, model, tag, value,
            cost_nano, presumed_nano, requests, errors, tokens, input_tokens, output_tokens, cache_read_tokens,
            cache_write_tokens, cache_write_1h_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens, images,
            tool_calls, latency_ms, latencies, presumed_requests"""
        per_customer = max(1, rows // self._customers)
        with self._owner.cursor().copy(f"COPY usage_{grain} ({columns}) FROM STDIN") as copy:
            for number in range(self._customers):
                for at in range(per_customer):
                    if grain == "days":
                        bucket = self._today - timedelta(days=at % DAYS)
                    else:
                        bucket = self._now.replace(minute=0, second=0, microsecond=0) - timedelta(
                            hours=at * 7
                        )
                    copy.write_row(self._row(grain, bucket, f"cus-{number:06}", MODELS[(number + at) % 5], 1))

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


def main() -> int:
    """Fills a system of its own, measures, prints a table; fails if a page takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=USAGE_ROWS, help="rows of usage")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    asked = parser.parse_args()
    with System(workers=1) as system:
        made = system.provision("bench", "customer:*:10:month", "tenant:*:100000:month")
        os.environ.update({name: system.environment()[name] for name in ("NOBURN_HOME", "PORT")})
        os.environ["DJANGO_SETTINGS_MODULE"] = "noburn.settings"
        import django

        django.setup()
        from django.conf import settings

        from noburn.kit import ids

        tenant_id, now = ids.decode(ids.TENANT, made["tenant_id"]), datetime.now(UTC)
        begun = time.perf_counter()
        with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner:
            Filled(owner, tenant_id, usage=asked.rows, customers=asked.customers, now=now).fill()
        print(
            f"{asked.rows:,} rows of usage, {asked.customers:,} customers, in {time.perf_counter() - begun:.0f} s"
        )
        measured = {name: statistics.median(taken) for name, taken in by_turns(calls_of(tenant_id, now))}
    base = measured["one row"]
    print("| page or query | ms | of one row's |\n|---|---|---|")
    for name, median in measured.items():
        print(f"| {name} | {median:.1f} | {median / base:.0f} |")
    slow = [name for name, median in measured.items() if median > TARGET_MS]
    if slow:
        print(f"slower than {TARGET_MS} ms: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
