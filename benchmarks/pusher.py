"""What the pusher sends in a second, beside Stripe's bare client that posts as many events to the same double.

`.venv/bin/python -m benchmarks.pusher` prints a table. The double is a process of its own. By turns: an hour of every
customer is written into the outbox and pushed by one worker; then the bare client posts as many events of other
customers, as many at once. Both are one request an event, since Stripe takes one at a time. The account's own limit (20 a
second in test mode, 200 live) is lifted for this.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from benchmarks.home import migrated, new_home, use_home
from noburn.kit.tenancy import span_in_this_process

if TYPE_CHECKING:
    from tests.billing.push.till import Till

CUSTOMERS = 50
ROUNDS = 7
ENOUGH = 1_000
"""Tokens of the account's bucket; refilled before each batch."""


def freeze(till: Till, names: list[str], at: datetime) -> float:
    """Has everybody use something in an hour, and writes it into the outbox; returns the seconds that writing took."""
    from billing.services import freezing
    from tests.billing.push.till import HOUR

    for number, name in enumerate(names):
        till.use(1_000 + number, at, name)
    till.to(at + HOUR + HOUR / 2)
    till.book.roll()
    begun = time.perf_counter()
    while freezing.freeze_due(now=till.now):
        continue
    return time.perf_counter() - begun


def push(till: Till) -> float:
    """Pushes all that is due; returns the seconds."""
    from billing.models import StripeAccount
    from billing.services import pushing

    begun = time.perf_counter()
    while True:
        StripeAccount.objects.filter(tenant_id=till.tenant_id).update(bucket_tokens=ENOUGH)
        if not pushing.push_batch(now=till.now):
            return time.perf_counter() - begun


def bare(till: Till, customers: list[str], at: datetime) -> float:
    """Posts an event of each customer by the client alone, side by side as the pusher does; returns the seconds."""
    from billing.services.pushing import AT_ONCE
    from billing.services.stripe_access import access_of
    from billing.stripe.client import client_for

    client = client_for(access_of(till.account()), retries=0)
    event = till.account().meter_event

    def post(customer: str) -> None:
        key = f"bare:{uuid4().hex}"
        client.v1.billing.meter_events.create(
            {
                "event_name": event,
                "identifier": key,
                "timestamp": int(at.timestamp()),
                "payload": {"stripe_customer_id": customer, "value": "1000"},
            },
            {"idempotency_key": key},
        )

    begun = time.perf_counter()
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        list(pool.map(post, customers))
    return time.perf_counter() - begun


def rounds(till: Till, customers: int, count: int) -> dict[str, list[float]]:
    """Events a second of each kind, round by round; the first round, which opens connections, is left out."""
    from billing.models import Measurement
    from tests.billing.push.till import DAY, HOUR, START

    names = [f"customer-{number}" for number in range(customers)]
    for name in names:
        till.link(name)
    client = till.double.client(till.key)
    others = [client.v1.customers.create({"name": f"other {number}"}).id for number in range(customers)]
    found: dict[str, list[float]] = {"frozen": [], "pushed": [], "bare": []}
    for number in range(count + 1):
        at = START + DAY + number * HOUR
        seconds = {"frozen": freeze(till, names, at), "pushed": push(till), "bare": bare(till, others, at)}
        if number:
            for kind, taken in seconds.items():
                found[kind].append(customers / taken)
    states = Measurement.objects.filter(tenant_id=till.tenant_id).values_list("state", flat=True)
    if list(states) != ["delivered"] * (customers * (count + 1)):
        raise RuntimeError("something was not delivered, so nothing was measured")
    return found


def measure(customers: int, count: int) -> dict[str, list[float]]:
    """Starts PostgreSQL, Valkey and the double, and measures in them."""
    import django

    django.setup()
    span_in_this_process()
    from django.conf import settings

    from billing.stripe.client import close_connections
    from noburn.kit.clock import utc_now
    from tenants.services.tenants import create_tenant
    from tests.billing.book import Book
    from tests.billing.push.till import START, Till
    from tests.doubles.stripe import StripeDouble

    with migrated():
        made: Any = create_tenant(
            slug="bench", name="Bench", email="b@example.com", actor="bench", now=utc_now()
        )
        with (
            StripeDouble(process=True) as double,
            psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as owner,
        ):
            settings.STRIPE_API_BASE = double.url
            double.set_clock(START)
            till = Till(Book(owner, made.tenant.pk), double)
            till.open()
            found = rounds(till, customers, count)
            close_connections()
        return found


def main() -> int:
    """Measures in a home of its own and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with new_home() as home:
        use_home(home)
        found = measure(asked.customers, asked.rounds)
    ratio = statistics.median(p / b for p, b in zip(found["pushed"], found["bare"], strict=True))
    told = {kind: statistics.median(rates) for kind, rates in found.items()}
    print(f"| events posted by the bare client | {told['bare']:.0f}/s | |")
    print(f"| measurements pushed by one worker | {told['pushed']:.0f}/s | {ratio:.2f} of bare |")
    print(
        f"| measurements written by one worker | {told['frozen']:.0f}/s | {told['frozen'] / told['bare']:.2f} |"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
