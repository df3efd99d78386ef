"""One tenant's tables as the roller, gateways and the money path would have left them, filled within a minute or two."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

DAYS = 60
DECISIONS = 300_000
LEDGER = 500_000
WALLETS = 20_000
MODELS = ("gpt-4o-mini", "gpt-4o", "claude-haiku-4-5", "claude-sonnet-4-5", "gemini-2.5-flash")

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
        # Of a database that is thrown away: what is lost in a crash is made again.
        self._owner.execute(
            "SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET work_mem = '64MB'"
        )
        steps = (
            ("customers", self._copy_customers),
            ("usage by the day", lambda: self._copy_usage("days")),
            ("usage by the hour", lambda: self._copy_usage("hours")),
            ("totals", self._copy_totals),
            ("counters", self._copy_counters),
            ("decisions", self._copy_decisions),
            ("ledger", self._copy_ledger),
            ("wallets", self._copy_wallets),
            ("audit", self._copy_audit),
            ("vacuum", lambda: self._owner.execute("VACUUM ANALYZE")),
        )
        for name, step in steps:
            begun = time.perf_counter()
            step()
            print(f"  {name}: {time.perf_counter() - begun:.0f} s", flush=True)

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
        with self._unindexed(f"usage_{grain}"):
            self._insert_usage(grain, bucket, rows)

    def _insert_usage(self, grain: str, bucket: str, rows: int) -> None:
        self._owner.execute(
            f"""INSERT INTO usage_{grain} (grain, tenant_id, bucket, key, project, customer, end_user, plan, api_key,
                provider, model, tag, value, cost_nano, presumed_nano, requests, errors, tokens, input_tokens,
                output_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, reasoning_tokens,
                audio_input_tokens, audio_output_tokens, images, tool_calls, latency_ms, latencies)
            SELECT '{grain}', %(tenant)s, {bucket}, gen_random_uuid(), 'default', 'cus-' || lpad(n::text, 6, '0'), '', '',
                '', 'openai', (%(models)s::text[])[1 + (n + a) %% 5], '', '', 1000 + (random() * 5000000)::bigint, 0, 10,
                0, 900, 700, 200, 0, 0, 0, 0, 0, 0, 0, 0, 8000, 10
            FROM generate_series(%(each)s - 1, 0, -1) AS a, generate_series(0, %(customers)s - 1) AS n""",
            {
                "tenant": self._tenant,
                "today": self._today,
                "now": self._now,
                "models": list(MODELS),
                "customers": self._customers,
                "each": max(1, rows // self._customers),
            },
        )

    @contextmanager
    def _unindexed(self, table: str) -> Iterator[None]:
        """The table without the indexes that are no constraints; they are built in one go afterwards."""
        found = self._owner.execute(
            """SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
            WHERE i.indrelid = %s::regclass AND NOT i.indisunique""",
            [table],
        ).fetchall()
        for name, _ in found:
            self._owner.execute(f"DROP INDEX {name}")
        yield
        for _, definition in found:
            self._owner.execute(definition)

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

    def _copy_wallets(self) -> None:
        """One customer of five pays beforehand; each was given credit once."""
        ((budget,),) = self._owner.execute(
            "SELECT wallets_id FROM billing_wallet WHERE tenant_id = %s LIMIT 1", [self._tenant]
        ).fetchall()
        wallets = [uuid4() for _ in range(min(WALLETS, self._customers))]
        with self._owner.cursor().copy(
            "COPY billing_wallet (id, tenant_id, wallets_id, customer, burnt_nano, owed_nano, auto_failures) FROM STDIN"
        ) as copy:
            for number, id_ in enumerate(wallets):
                copy.write_row((id_, self._tenant, budget, f"cus-{number:06}", 0, 0, 0))
        with self._owner.cursor().copy(
            """COPY billing_creditgrant (id, tenant_id, wallet_id, kind, amount_nano, remaining_nano, priority, reason,
                created_by, void_reason, voided_by, refund_wanted, refund_id) FROM STDIN"""
        ) as copy:
            for id_ in wallets:
                amount = self._chance.randrange(1, 50) * 1_000_000_000
                copy.write_row(
                    (uuid4(), self._tenant, id_, "paid", amount, amount, 0, "", "bench", "", "", False, "")
                )

    def _copy_audit(self) -> None:
        with self._owner.cursor().copy(
            "COPY tenants_auditentry (id, tenant_id, actor, action, object, before, after, at) FROM STDIN"
        ) as copy:
            for number in range(self._customers):
                at = self._now - timedelta(seconds=number * 30)
                words = ("system", "customer.created", f"cus_{number:06}", None, '{"name": "x"}')
                copy.write_row((uuid4(), self._tenant, *words, at))
