"""After months of everything that can go wrong each customer's invoices are its use, to the smallest unit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest

from billing.models import ACTIVE, CreditNote, Measurement
from tests.billing.push.till import DAY, TODAY
from tests.billing.year.deaths import DEATHS, PLAN_DEATHS
from tests.billing.year.life import FAULTS, Chances
from tests.billing.year.truth import month_start

if TYPE_CHECKING:
    from tests.billing.push.till import Till
    from tests.billing.year.life import Life

pytestmark = pytest.mark.real_db

CENTS = Decimal("0.0001")


def first_of(months_ago: int) -> datetime:
    """The first of a month, so many before the present one."""
    at = month_start(TODAY)
    for _ in range(months_ago):
        at = month_start(at - DAY)
    return at.astimezone(UTC)


def check(life: Life) -> None:
    """Holds invoices, events and outbox to the truth, customer by customer."""
    for till in life.tills:
        invoices: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for each in life.double.objects("invoice", key=till.key):
            if each["status"] != "draft":
                invoices[each["customer"]].append(each)
        events = life.double.objects("meter_event", key=till.key)
        assert max(Counter(each["identifier"] for each in events).values(), default=0) <= 1
        for name in life.names:
            _check_customer(life, till, name, invoices, events)
        assert all(row.agrees for row in till.reconcile())
        issued = CreditNote.objects.filter(tenant_id=till.tenant_id)
        at_stripe = life.double.objects("credit_note", key=till.key)
        assert sorted(each["amount"] for each in at_stripe) == sorted(row.amount for row in issued)
    for buyer in life.buyers:
        life.happened["plans invoiced"] += buyer.check()
    for customer, purse in life.purses.items():
        life.happened["topped up"] += purse.check(life.truth.wallet_nano(customer))


def _check_customer(
    life: Life,
    till: Till,
    name: str,
    invoices: dict[str, list[dict[str, Any]]],
    events: list[dict[str, Any]],
) -> None:
    link = till.link_of(name)
    owed = life.truth.owed_micro((till.tenant_id, name))
    rows = Measurement.objects.filter(tenant_id=till.tenant_id, customer_id=link.customer_id)
    assert {row.state for row in rows} <= {"delivered", "abandoned"}, name
    told = {row.key: row.value_micro for row in rows if row.state in ACTIVE}
    counted = {
        each["identifier"]: each["value"] for each in events if each["customer"] == link.stripe_customer
    }
    # What Stripe counted is what was told, message by message.
    assert counted == told, name
    lines = [line for each in invoices[link.stripe_customer] for line in each["lines"]["data"]]
    # What was counted after a last invoice is on none, and on the one that it was carried to.
    assert sum(line["quantity"] for line in lines) == owed, name
    for line in lines:
        exact = line["quantity"] * CENTS
        assert line["amount"] == int(exact.quantize(Decimal(1), ROUND_HALF_UP)), name
    totals = [each["total"] for each in invoices[link.stripe_customer]]
    assert sum(totals) == sum(line["amount"] for line in lines), name


def happened(life: Life, *wanted: str) -> None:
    """A life in which something never went wrong shows nothing."""
    missing = [each for each in wanted if not life.happened[each]]
    assert not missing, (missing, life.happened)


def tell(life: Life) -> None:
    """Says what a life was made of, where pytest shows it (-s)."""
    print(life.now.date(), *(f"{name}: {times}" for name, times in sorted(life.happened.items())), sep="\n")


KILLS = tuple(f"killed {step}" for _, step in DEATHS)
DIED = tuple(f"died {step}" for step in (*(step for _, step in DEATHS), "handler done"))
PLANS_KILLED = tuple(f"killed {step}" for _, step in PLAN_DEATHS)
PLANS_DIED = tuple(f"died {step}" for _, step in PLAN_DEATHS)


class TestFiveWeeks:
    def test_invoice_each_customer_what_it_used(self, begin: Callable[..., Life]) -> None:
        life = begin(tenants=3, customers=1, buyers=1, starts_at=first_of(6), seed=1, kills=9)
        life.live(16)
        life.outage(30)
        life.close_wallets()
        life.live(18)
        life.quiet_end()
        check(life)
        happened(life, "calls", "late", "corrected", "re-rated", "card version", "subscribed anew", "outage")
        happened(life, "topped up", "buy team", "requests beyond", "late requests", *KILLS, *PLANS_KILLED)


@pytest.mark.soak
class TestYearOfPlans:
    def test_invoices_each_tenant_its_plan_and_what_is_beyond(self, begin: Callable[..., Life]) -> None:
        life = begin(buyers=3, customers=0, starts_at=first_of(14), seed=6, kills=40)
        for quarter in range(4):
            life.live(60 + quarter)
            life.outage(30)
            life.live(30)
        life.quiet_end()
        check(life)
        tell(life)
        happened(life, "buy team", "buy scale", "buy without money team", "change scale", "change team")
        happened(life, "requests beyond")
        happened(
            life, "change free", "run out of money", "pay", "past due", "refused by plan", "late requests"
        )
        happened(life, "outage", "plans invoiced", *FAULTS, *PLANS_KILLED, *PLANS_DIED, "died handler done")


@pytest.mark.soak
class TestYear:
    def test_invoices_each_customer_what_it_used(self, begin: Callable[..., Life]) -> None:
        # Fifty customers, each of whom uses something every week or so.
        seldom = Chances(call=12, late=2, reprice=1, subscription=1)
        life = begin(
            tenants=3, customers=17, starts_at=first_of(14), seed=2, kills=40, wallets=3, chances=seldom
        )
        for quarter in range(4):
            life.live(60 + quarter)
            life.outage(30)
            life.live(30)
            if quarter == 2:
                life.close_wallets()
        life.quiet_end()
        check(life)
        tell(life)
        happened(life, "calls", "late", "corrected", "re-rated", "card version", "own card", "credit note")
        happened(life, "last invoice", "no last invoice", "subscribed anew", "present", "topped up")
        happened(life, "outage", *FAULTS, *KILLS, "killed checked", *DIED)
