"""Rolling up: how fast the ledger is taken in, against how fast it grows, and how far behind the rollups are.

Entries are written by `nb_resolve` in groups, as a gateway's group commit writes them, onto three hot counters; they are
rolled up by the running system's own Celery worker, alerting included.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg

from noburn.kit.tenancy import span_in_this_process

GROUP = 200
PACED_GROUP = 100
DRAIN_SECONDS = 120
SAMPLE_SECONDS = 0.2
COUNTERS = 3

Connection = psycopg.Connection[Any]


class Writer:
    """Writes settlements of one tenant onto three counters with authority to spare."""

    def __init__(self, connection: Connection, tenant_id: UUID) -> None:
        from budgets.stores.redis.keys import shard_of

        self._connection, self._tenant_id, self._shard = connection, tenant_id, shard_of(tenant_id)
        self._chance = random.Random(1)
        epoch = connection.execute(
            "SELECT epoch_id FROM epochs WHERE shard = %s AND state = 'open'", [self._shard]
        ).fetchone()
        assert epoch is not None
        self._epoch = epoch[0]
        budgets = connection.execute(
            "SELECT id FROM budgets_budget WHERE tenant_id = %s ORDER BY id LIMIT %s", [tenant_id, COUNTERS]
        ).fetchall()
        assert len(budgets) == COUNTERS
        self._counters = [uuid4() for _ in budgets]
        for counter, (budget,) in zip(self._counters, budgets, strict=True):
            connection.execute(
                """INSERT INTO counters (tenant_id, counter_id, budget_id, subject, starts_at, limit_amount,
                    budget_version, spent, opening) VALUES (%s, %s, %s, 'bench', now(), %s, 1, 0, 0)""",
                [tenant_id, counter, budget, 2**52],
            )
            connection.execute(
                """INSERT INTO grants (tenant_id, counter_id, epoch_id, incarnation, authority, granted)
                VALUES (%s, %s, %s, 1, %s, %s)""",
                [tenant_id, counter, self._epoch, 2**50, 2**50],
            )

    def group(self, size: int) -> str:
        """The argument of one call."""
        now = datetime.now(UTC)
        return msgspec.json.encode([self._item(now) for _ in range(size)]).decode()

    def _item(self, now: datetime) -> dict[str, Any]:
        chance = self._chance
        return {
            "hold": uuid4(),
            "month": now.date().replace(day=1).isoformat(),
            "tenant": self._tenant_id,
            "shard": self._shard,
            "epoch": self._epoch,
            "state": "settled",
            "flags": [],
            "digest": "00",
            "counters": self._counters,
            "incs": [1] * COUNTERS,
            "held": [480_000] * COUNTERS,
            "posted": [324_000] * COUNTERS,
            "held_cost": 480_000,
            "cost": 324_000,
            "tokens": 1_270,
            "requests": 1,
            "placed_at": int(now.timestamp() * 1000),
            "key": "key_bench",
            "project": "default",
            "customer": f"c{chance.randrange(1000)}",
            "end_user": f"u{chance.randrange(3)}",
            "run": "",
            "plan": "pro",
            "tags": {"feature": chance.choice(["chat", "search"]), "team": "web"},
            "provider": "openai",
            "model": chance.choice(["gpt-4o-mini", "gpt-4o"]),
            "reported_model": "gpt-4o-mini-2024-07-18",
            "price_id": "",
            "usage": {"input_tokens": 980, "output_tokens": 290},
            "outcome": "ok",
            "latency_ms": 840,
            "note": "",
        }

    def write(self, group: str) -> None:
        """One group commit."""
        self._connection.execute("SELECT nb_resolve(%s::jsonb)", [group])


def waiting(connection: Connection) -> int:
    """How many entries are not rolled up yet."""
    sql = "SELECT count(*) FROM ledger_entries l, usage_cursor c WHERE l.position >= c.position"
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def drain(connection: Connection) -> float:
    """Seconds until nothing waits. Raises TimeoutError."""
    began = time.perf_counter()
    while waiting(connection):
        if time.perf_counter() - began > DRAIN_SECONDS:
            raise TimeoutError(f"{waiting(connection)} entries still wait")
        time.sleep(0.01)
    return time.perf_counter() - began


def rates(writer: Writer, connection: Connection, app_url: str, entries: int) -> tuple[float, float]:
    """Entries a second written, and then rolled up, one after the other."""
    from budgets.stores.postgres import metering

    groups = [writer.group(GROUP) for _ in range(entries // GROUP)]
    with psycopg.connect(app_url) as app, psycopg.connect(app_url) as held:
        drain(connection)
        # The system's own worker finds somebody at it, and leaves.
        with held.cursor() as cursor:
            metering.roll_step(cursor, 1)
        began = time.perf_counter()
        for group in groups:
            writer.write(group)
        written = time.perf_counter() - began
        held.rollback()
        began = time.perf_counter()
        while waiting(connection):
            with app.transaction(), app.cursor() as cursor:
                metering.roll_step(cursor, 5_000)
        rolled = time.perf_counter() - began
    return len(groups) * GROUP / written, len(groups) * GROUP / rolled


def lag(writer: Writer, database_url: str, *, rate: int, seconds: int) -> tuple[float, list[float]]:
    """Writes at a rate while the system rolls up; returns the rate reached, and how far behind the rollups were."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not done.wait(SAMPLE_SECONDS):
                row = connection.execute(
                    "SELECT extract(epoch FROM clock_timestamp() - through_at)::float8 FROM usage_cursor"
                ).fetchone()
                assert row is not None
                samples.append(row[0])

    groups = [writer.group(PACED_GROUP) for _ in range(rate * seconds // PACED_GROUP)]
    watching = threading.Thread(target=sample)
    watching.start()
    began = time.perf_counter()
    for number, group in enumerate(groups):
        time.sleep(max(0.0, began + number * PACED_GROUP / rate - time.perf_counter()))
        writer.write(group)
    reached = len(groups) * PACED_GROUP / (time.perf_counter() - began)
    done.set()
    watching.join()
    return reached, samples


def main() -> None:
    """Prints figures as JSON: `python -m benchmarks.metering TENANT_ID ENTRIES RATE SECONDS`, beside a running system."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noburn.settings")
    import django

    django.setup()
    span_in_this_process()
    from django.conf import settings

    from noburn.kit import ids

    tenant_id = ids.decode(ids.TENANT, sys.argv[1])
    entries, rate, seconds = map(int, sys.argv[2:])
    with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner:
        writer = Writer(owner, tenant_id)
        rates(writer, owner, settings.DATABASE_URL, entries // 4)
        written, rolled = rates(writer, owner, settings.DATABASE_URL, entries)
        reached, behind = lag(writer, settings.DATABASE_URL, rate=rate, seconds=seconds)
        last = drain(owner)
        row = owner.execute("SELECT count(*) FROM nb_verify_usage(%s)", [tenant_id]).fetchone()
        assert row is not None
    figures = {
        "written": written,
        "rolled": rolled,
        "reached": reached,
        "behind_p50": statistics.median(behind),
        "behind_max": max(behind),
        "drained": last,
        "differences": row[0],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
