"""The dashboard's pages over five million rows of usage and a hundred thousand customers of one tenant.

`.venv/bin/python -m benchmarks.dashboard`. Rows are as the roller, gateways and the money path would have left them.
Each page is asked of Django inside this process, by turns; what is told is the median of its time at the server, and of
what it cost in CPU time, here and in the database's process, which says more where other work keeps the machine busy.
`--home DIR` keeps the filled database there, and measures the one that is there already.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.dashboard_data import Filled
from benchmarks.home import migrated, new_home, use_home
from noburn.kit.tenancy import span_in_this_process

USAGE_ROWS = 5_000_000
CUSTOMERS = 100_000
TARGET_MS = 300
ROUNDS = 5
UNASKED = frozenset({"feed", "start-key", "plan-checkout", "plan-portal"})
"""Pages that stream, that want a POST, or that ask Stripe."""
MORE = {
    "models": ("q=gpt&provider=openai",),
    "model": ("provider=openai&model=gpt-4o-mini",),
    "model-compare": ("models=openai/gpt-4o-mini",),
    "usage": ("by=model", "by=customer", "by=customer&days=90", "by=day&customer=cus-000123"),
    "ledger": ("customer=cus-000123",),
    "decisions": ("decision=deny", "customer=cus-000123"),
    "customers": ("search=99123", "search=nobody", "search=cus-0001", "search=9", "state=suspended"),
    "customer-named": ("id=cus-000123",),
    "wallets": ("q=000123",),
}
"""Other ways to ask for a page, by its name."""
ONLY_ASKED = frozenset({"model", "customer-named"})
"""Pages that are none without what MORE says."""


@dataclass
class Taken:
    """What one call took, round by round: milliseconds of the clock, and of CPU here and in the database."""

    wall: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)

    def told(self) -> tuple[float, float, float, float]:
        """The median and the least by the clock, and the medians of CPU."""
        return (
            statistics.median(self.wall),
            min(self.wall),
            statistics.median(self.here),
            statistics.median(self.database),
        )


def _cpu_of(pid: int) -> float:
    """Milliseconds that a process was on a CPU, as Linux counts them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


def by_turns(calls: dict[str, Callable[[], Any]]) -> Iterator[tuple[str, Taken]]:
    """What each call took, after one that warms it up, by turns so that the machine's moods strike all of them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    found = {name: Taken() for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            here, database, begun = time.process_time(), _cpu_of(pid), time.perf_counter()
            call()
            wall = time.perf_counter() - begun
            if turn:
                found[name].wall.append(wall * 1000)
                found[name].here.append((time.process_time() - here) * 1000)
                found[name].database.append(_cpu_of(pid) - database)
    yield from found.items()


def pages_of(tenant_id: UUID) -> dict[str, Callable[[], Any]]:
    """Every page that can be asked for, as its owner gets it: routing, session, rights, queries, template."""
    from django.test import Client
    from django.urls import URLPattern, URLResolver, get_resolver

    from noburn.dashboard.navigation import NAMESPACE, page_url
    from tenants.models import Member, Tenant

    tenant, client = Tenant.objects.get(pk=tenant_id), Client()
    client.force_login(Member.objects.select_related("user").filter(tenant=tenant)[0].user)
    objects = objects_of(tenant_id)

    def routes(patterns: list[URLPattern | URLResolver]) -> Iterator[URLPattern]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from routes(pattern.url_patterns)
            else:
                yield pattern

    def get(path: str) -> None:
        answer = client.get(path, headers={"Host": "localhost"})
        # 302: a page that leads on. 400, 404, 409: of a thing that cannot be done to this tenant's.
        assert answer.status_code in (200, 302, 400, 404, 409), (path, answer.status_code)

    (shell,) = (each for each in get_resolver().url_patterns if getattr(each, "namespace", "") == NAMESPACE)
    assert isinstance(shell, URLResolver)
    found: dict[str, Callable[[], Any]] = {}
    for route in routes(shell.url_patterns):
        name, variables = str(route.name), set(route.pattern.converters)
        if name in UNASKED or not variables <= set(objects) or not hasattr(route.callback, "view_class"):
            continue
        view = route.callback.view_class
        if not hasattr(view, "get") or "get" not in view.http_method_names:
            continue
        address = page_url(name, tenant=tenant.slug, **{each: objects[each] for each in variables})
        for question in (*(() if name in ONLY_ASKED else ("",)), *MORE.get(name, ())):
            shown = f"{name}?{question}" if question else name
            found[f"page {shown}"] = partial(get, f"{address}?{question}" if question else address)
    return found


def objects_of(tenant_id: UUID) -> dict[str, str]:
    """One of each thing that addresses name, by the variable's name."""
    from billing.models import CreditGrant, RateCard, Wallet
    from budgets.models import Budget
    from budgets.queries.bounded import rows
    from noburn.kit import ids
    from tenants.models import Customer

    wallet = Wallet.objects.get(tenant_id=tenant_id, customer="cus-000123")
    (decision,) = rows(
        "SELECT id FROM decisions WHERE tenant_id = %s AND reason IS NOT NULL LIMIT 1", [tenant_id]
    )
    (entry,) = rows("SELECT hold_id FROM ledger_entries WHERE tenant_id = %s LIMIT 1", [tenant_id])
    return {
        "cus_id": ids.encode(
            ids.CUSTOMER, Customer.objects.get(tenant_id=tenant_id, external_id="cus-000123").pk
        ),
        "bud_id": ids.encode(ids.BUDGET, Budget.objects.filter(tenant_id=tenant_id, scope="customer")[0].pk),
        "bud": ids.encode(ids.BUDGET, Budget.objects.filter(tenant_id=tenant_id, scope="customer")[0].pk),
        "rcd": ids.encode(ids.RATE_CARD, RateCard.objects.filter(tenant_id=tenant_id)[0].pk),
        "wal": ids.encode(ids.WALLET, wallet.pk),
        "crg": ids.encode("crg", CreditGrant.objects.filter(wallet=wallet)[0].pk),
        "dec_id": ids.encode(ids.DECISION, decision["id"]),
        "hold_id": ids.encode(ids.HOLD, entry["hold_id"]),
    }


def calls_of(tenant_id: UUID) -> dict[str, Callable[[], Any]]:
    """What pages are compared with, and the figures behind them as a worker adds them up."""
    from budgets.models import Budget
    from budgets.services import figures
    from tenants.models import Tenant

    tenant = Tenant.objects.get(pk=tenant_id)

    def figure(kind: str) -> figures.Shown:
        return figures.figure(tenant=tenant, kind=kind, now=datetime.now(UTC))

    return {
        "one row": lambda: Budget.objects.filter(tenant_id=tenant_id).first(),
        **{f"figure {kind}": partial(figure, kind) for kind in figures.KINDS},
    }


def prepare(*, usage: int, customers: int, now: datetime) -> UUID:
    """Returns the tenant that is measured: filled here, or by an earlier run."""
    from django.conf import settings

    from billing.domain.rate_card_reading import read_terms
    from billing.services.rate_cards import NewVersion, assign_card, create_rate_card
    from billing.services.wallets import create_wallet
    from budgets.services.budgets import NewBudget, create_budget
    from budgets.services.price_seed import seed_prices
    from tenants.models import AuditEntry, Tenant
    from tenants.services.tenants import create_tenant

    filled = Tenant.objects.filter(slug="bench").first()
    if filled is not None:
        # The last step but the vacuum.
        assert AuditEntry.objects.filter(tenant=filled, action="customer.created").exists(), "half filled"
        return filled.pk
    seed_prices()
    tenant_id = create_tenant(
        slug="bench", name="Bench", email="b@example.com", actor="bench", now=now
    ).tenant.pk
    who: dict[str, Any] = {"tenant_id": tenant_id, "actor": "bench"}
    for scope, limit in (("customer", "10"), ("tenant", "100000")):
        create_budget(budget=NewBudget(scope=scope, window="month", limit=limit), now=now, **who)
    since = (now - timedelta(days=70)).replace(minute=0, second=0, microsecond=0)
    terms = NewVersion(terms=read_terms({"markup_percent": "20"}), effective_from=since)
    card, _ = create_rate_card(name="standard", version=terms, now=since, **who)
    assign_card(card_id=card.pk, customers=None, effective_from=since, now=since, **who)
    create_wallet(customer="pays-beforehand", now=now, **who)
    begun = time.perf_counter()
    with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner:
        Filled(owner, tenant_id, usage=usage, customers=customers, now=now).fill()
    print(
        f"{usage:,} rows of usage, {customers:,} customers, in {time.perf_counter() - begun:.0f} s",
        flush=True,
    )
    return tenant_id


def measure(*, usage: int, customers: int, only: str) -> dict[str, Taken]:
    """Starts PostgreSQL and Valkey in this home, fills a tenant, and asks for everything."""
    import django

    django.setup()
    span_in_this_process()
    from django.core.management import call_command

    with migrated():
        call_command("collectstatic", verbosity=0, interactive=False)
        now = datetime.now(UTC)
        tenant_id = prepare(usage=usage, customers=customers, now=now)
        calls = {**calls_of(tenant_id), **pages_of(tenant_id)}
        return dict(
            by_turns({name: call for name, call in calls.items() if only in name or name == "one row"})
        )


def main() -> int:
    """Measures in a home of its own and prints a table; fails if a page takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=USAGE_ROWS, help="rows of usage")
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--home", default="", help="keep the database here, and use the one that is here")
    parser.add_argument("--only", default="", help="measure what has this in its name")
    asked = parser.parse_args()
    # The one that is asked for stays.
    with nullcontext(asked.home) if asked.home else new_home() as home:
        use_home(home, NOBURN_DURABLE="0")
        measured = measure(usage=asked.rows, customers=asked.customers, only=asked.only)
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| page or figure | ms, median | least | CPU of Django | of PostgreSQL |\n|---|---|---|---|---|")
    for name, taken in sorted(measured.items(), key=lambda each: -statistics.median(each[1].wall)):
        print(f"| {name} | {' | '.join(f'{each:.1f}' for each in taken.told())} |")
    slow = [name for name, taken in measured.items() if min(taken.wall) > TARGET_MS]
    if slow:
        print(f"never within {TARGET_MS} ms: {', '.join(slow)}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
