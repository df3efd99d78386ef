"""What row-level security costs: the same work with policies and without them, by turns.

`python -m benchmarks.isolation`, in a home of its own. Requests go through Django's whole stack in this process: a list
of budgets, one budget, a change, and a search among many customers. Groups of settlements are committed by nb_resolve
and rolled up. Times are of CPU, of the client and of its PostgreSQL process; ratios are of medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from benchmarks.home import migrated, new_home, use_home
from noburn.kit.tenancy import span_in_this_process

CUSTOMERS = 100_000
ROUNDS = 6
REQUESTS = 40
GROUPS = 10
GROUP = 200

SWITCH = """
DO $$ DECLARE t regclass; BEGIN
    FOR t IN SELECT c.oid::regclass FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
            AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'nb_tenant')
    LOOP EXECUTE format('ALTER TABLE %s {on} ROW LEVEL SECURITY', t); END LOOP;
END $$
"""


def used(pids: list[int]) -> float:
    """Milliseconds of CPU of this process and these of the server: what else the machine does is not in it."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            ticks += sum(int(word) for word in stat.read().rpartition(")")[2].split()[11:13])
    return (time.process_time() + ticks / os.sysconf("SC_CLK_TCK")) * 1000


def timed(work: Callable[[], object], times: int, pids: list[int]) -> float:
    """Milliseconds of CPU that one takes, client and server together."""
    began = used(pids)
    for _ in range(times):
        work()
    return (used(pids) - began) / times


def measure(customers: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of CPU by kind of work, with policies and without."""
    import django

    django.setup()
    span_in_this_process()
    from django.conf import settings
    from django.db import connection

    settings.ALLOWED_HOSTS.append("testserver")
    from budgets.stores.postgres import metering
    from tenants.services.keys import issue_key
    from tenants.services.tenants import create_tenant
    from tests.budgets.metering.ledger import RandomLedger, resolve
    from tests.support.api import Api

    with migrated():
        now = datetime.now(UTC)
        tenants = [
            create_tenant(slug=slug, name=slug, email=f"{slug}@example.com", actor="bench", now=now).tenant.pk
            for slug in ("one", "two")
        ]
        key = issue_key(tenant_id=tenants[0], name="bench", scopes=["read", "manage"], actor="bench", now=now)
        api = Api(secret=key.secret)
        with connection.cursor() as cursor:
            for tenant in tenants:
                cursor.execute(
                    "INSERT INTO tenants_customer (id, tenant_id, external_id, name) SELECT gen_random_uuid(), %s,"
                    " 'cus-' || i, 'Customer ' || md5(i::text) FROM generate_series(1, %s) i",
                    [tenant, customers],
                )
        budgets = [
            api.post(
                "/v1/budgets", {"name": f"b{n}", "scope": "customer", "window": "month", "limit_usd": "10"}
            )
            for n in range(50)
        ]
        one = f"/v1/budgets/{budgets[0]['id']}"
        ledger = RandomLedger(tenants, seed=1, now=now)
        found: dict[str, dict[str, list[float]]] = {}
        with (
            psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner,
            psycopg.connect(settings.DATABASE_URL, autocommit=True) as app,
        ):
            owner.execute("ANALYZE")

            def settle() -> None:
                resolve(owner, ledger.batch(GROUP)[0])

            def roll() -> None:
                with app.transaction(), app.cursor() as inside:
                    metering.roll_step(inside, 5_000)

            works: dict[str, tuple[Callable[[], Any], int]] = {
                "list of 50 budgets": (lambda: api.get("/v1/budgets", limit=50), REQUESTS),
                "one budget": (lambda: api.get(one), REQUESTS),
                "change of a budget": (lambda: api.patch(one, {"name": uuid4().hex}), REQUESTS),
                "search among customers": (lambda: api.get("/v1/customers", search="4f2a1c"), REQUESTS),
                "group of 200 settlements": (settle, GROUPS),
                "roll-up of 2,000 settlements": (roll, 1),
            }
            api.get(one)
            pids = [c.info.backend_pid for c in (owner, app, connection.connection)]
            for turn in range(rounds + 1):
                for on in ("ENABLE", "DISABLE") if turn % 2 else ("DISABLE", "ENABLE"):
                    owner.execute(SWITCH.format(on=on).encode())
                    for name, (work, times) in works.items():
                        took = timed(work, times, pids)
                        if turn:
                            found.setdefault(name, {}).setdefault(on, []).append(took)
        return found


def main() -> int:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with new_home() as home:
        use_home(home)
        found = measure(asked.customers, asked.rounds)
    print("| what | with policies | without | ratio |\n|---|---|---|---|")
    for name, sides in found.items():
        on, off = statistics.median(sides["ENABLE"]), statistics.median(sides["DISABLE"])
        print(f"| {name} | {on:.1f} ms | {off:.1f} ms | {on / off:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
