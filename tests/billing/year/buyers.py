"""Tenants with noburn's own plans through months: they buy, change, leave, do not pay, and use more than is included.

What a buyer owes is reckoned here from a journal of what it used, hour by hour, and from what the double sold to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID, uuid4

from alerts.models import Alert
from billing.domain.pushing import hour_of
from billing.models import ACTIVE, EventState, PlanAccount, PlanReport, StripeEvent
from billing.services import plan_changes, plan_reports, plans, stripe_inbox
from tests.billing.book import Book
from tests.billing.plans.seller import PAGES, PLATFORM_KEY, book_requests, forget_what_was_used
from tests.billing.year.truth import month_start
from tests.doubles.stripe import StripeDouble

HOUR = timedelta(hours=1)
FIRST_HOUR, LAST_HOUR = 5, 24
"""Hours of a day in which buyers use something: what is used shortly before a period ends, at night, is told too late
for its invoice (docs/billing.md), and would be no whole sum."""

LIVING = ("trialing", "active", "past_due")
SOLD = {"team": (4_900, 1_000_000, Decimal(5)), "scale": (49_900, 20_000_000, Decimal(2))}
"""A plan's cents a month, the requests that these include, and cents for a thousand beyond."""

FREE_REQUESTS, FREE_REFUSED = 50_000, 60_000


@dataclass(frozen=True)
class Habits:
    """On which days a buyer does what, and how much it uses in a day at most, by its plan."""

    deeds: Mapping[int, tuple[str, str]]
    daily_max: Mapping[str, int]


GROWS = Habits(
    {
        0: ("buy", "team"),
        70: ("change", "scale"),
        133: ("change", "team"),
        200: ("change", "free"),
        262: ("buy", "scale"),
    },
    {"free": 5_000, "team": 90_000, "scale": 1_500_000},
)
DOES_NOT_PAY = Habits(
    {
        10: ("buy without money", "team"),
        70: ("buy", "team"),
        100: ("run out of money", ""),
        140: ("pay", ""),
        200: ("run out of money", ""),
    },
    {"free": 4_000, "team": 70_000},
)
STAYS_FREE = Habits({}, {"free": 4_500})
EVERYBODY = (GROWS, DOES_NOT_PAY, STAYS_FREE)


class Platform:
    """noburn's own account at the double, for a life in which plans are sold."""

    def __init__(self, double: StripeDouble) -> None:
        self.double, self.client = double, double.client(PLATFORM_KEY)
        made = self.client.v1.webhook_endpoints.create(
            {"url": "https://noburn.example/stripe/webhooks/platform", "enabled_events": ["*"]}
        )
        self.secret, self.account = str(made.secret), double.account(PLATFORM_KEY)
        self.forget()
        forget_what_was_used()

    def forget(self) -> None:
        """Puts to rest what is left: sweeps look at every tenant."""
        PlanAccount.objects.update(next_report_at=None, counted_at=None)
        PlanReport.objects.filter(state="pending").update(state="abandoned")
        StripeEvent.objects.filter(state=EventState.PENDING).update(state=EventState.IGNORED)

    def receive(self, sent: dict[str, Any], now: datetime) -> None:
        """Takes in one event of the account."""
        stripe_inbox.receive(
            endpoint="platform",
            body=sent["body"].encode(),
            signature=sent["headers"]["Stripe-Signature"],
            now=now,
        )

    def work(self, now: datetime) -> int:
        """What workers do about plans; returns how much there was to do."""
        done = plans.count_due(now=now) + plan_reports.freeze_due(now=now)
        return done + plan_reports.push_due(now=now)

    def freeze(self, now: datetime) -> None:
        """Writes what closed hours owe, so that a worker can be killed at sending it."""
        while plan_reports.freeze_due(now=now):
            continue


@dataclass
class Buyer:
    """One tenant and its plan. `used` is all that it used, by the hour."""

    book: Book
    platform: Platform
    habits: Habits
    began: datetime
    happened: Counter[str]
    now: datetime = field(init=False)
    used: dict[datetime, int] = field(default_factory=lambda: defaultdict(int))
    changes: list[datetime] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.now = self.began

    @property
    def tenant_id(self) -> UUID:
        return self.book.tenant_id

    def account(self) -> PlanAccount:
        """The plan as noburn has it."""
        return plans.ensure_account(tenant_id=self.tenant_id, now=self.now)

    # --- what the double has ------------------------------------------------------------------------------

    def _mine(self, kind: str) -> list[dict[str, Any]]:
        customer = self.account().stripe_customer
        found = self.platform.double.objects(kind, key=PLATFORM_KEY) if customer else []
        return [each for each in found if each["customer"] == customer]

    def held(self) -> dict[str, Any] | None:
        """The living subscription."""
        living = [each for each in self._mine("subscription") if each["status"] in LIVING]
        assert len(living) <= 1
        return living[0] if living else None

    def plan(self) -> str:
        """What it has, as the double says."""
        held = self.held()
        return "free" if held is None else _plan_of(held["items"]["data"][0]["price"])

    # --- a day --------------------------------------------------------------------------------------------

    def use(self, day: datetime, chance: Any) -> None:
        """Uses something in a few hours of the day; one time in three some of it is told days later."""
        most = self.habits.daily_max[self.plan()]
        for _ in range(chance.randrange(1, 3)):
            at, requests = day + chance.randrange(FIRST_HOUR, LAST_HOUR) * HOUR, chance.randrange(1, most)
            late = at - timedelta(days=chance.randrange(1, 9)) if chance.randrange(3) == 0 else at
            # Of the period, or what the price has been since, before: later is too late (docs/billing.md).
            if late < at and late - HOUR < self._open_since():
                late = at
            self.happened["late requests"] += late < at
            self.used[late] += requests
            book_requests(self.book, requests, late)

    def _open_since(self) -> datetime:
        held = self.held()
        if held is None:
            return max([self.began, *self._ends()])
        return max([_at(held["items"]["data"][0]["current_period_start"]), *self.changes])

    def _ends(self) -> list[datetime]:
        return [_at(each["ended_at"]) for each in self._mine("subscription") if each["ended_at"]]

    def act(self) -> bool:
        """Does what the day asks for, and what could not be done on earlier ones; returns whether that was anything."""
        done, self.waiting = self.waiting, []
        for deed, plan in done:
            getattr(self, f"_{deed.replace(' ', '_')}")(plan)
            self.happened[f"{deed} {plan}".strip()] += 1
        return bool(done)

    def plan_day(self) -> None:
        """Takes up what the day asks for."""
        deed = self.habits.deeds.get((self.now - self.began).days)
        if deed is not None:
            self.waiting.append(deed)

    def _buy(self, plan: str, card: str = "pm_card_visa") -> None:
        session, _ = plan_changes.checkout(
            tenant_id=self.tenant_id, plan=plan, key=uuid4().hex, now=self.now, **PAGES
        )
        self.platform.double.pay_checkout(session, key=PLATFORM_KEY, card=card)

    def _buy_without_money(self, plan: str) -> None:
        self._buy(plan, "pm_card_chargeCustomerFail")

    def _change(self, plan: str) -> None:
        if plan == "free":
            due = None
        else:
            due = plan_changes.preview(tenant_id=self.tenant_id, plan=plan, now=self.now).due_cents
            self.changes.append(self.now)
        plan_changes.change(
            tenant_id=self.tenant_id, plan=plan, key=uuid4().hex, actor="user:alice", now=self.now
        )
        # It costs at once what the preview said.
        assert due is None or self._mine("invoice")[-1]["amount_due"] == due

    def _run_out_of_money(self, _: str) -> None:
        client, customer = self.platform.client, self.account().stripe_customer
        method = client.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer})
        client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
        held = self.held()
        assert held is not None
        client.v1.subscriptions.update(held["id"], {"default_payment_method": method.id})

    def _pay(self, _: str) -> None:
        for invoice in self._mine("invoice"):
            if invoice["status"] == "open":
                self.platform.double.pay_invoice(invoice["id"], key=PLATFORM_KEY)
        client, customer = self.platform.client, self.account().stripe_customer
        method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
        held = self.held()
        assert held is not None
        client.v1.subscriptions.update(held["id"], {"default_payment_method": method.id})

    # --- what must hold -----------------------------------------------------------------------------------

    def made(self, since: datetime, until: datetime) -> int:
        """What it used in whole hours [since, until)."""
        return sum(many for at, many in self.used.items() if hour_of(since) <= at < hour_of(until))

    def check_day(self) -> None:
        """noburn has the plan that the double sold, has counted what was used, and refuses by it."""
        account, held = self.account(), self.held()
        if held is None:
            first = month_start(self.now)
            plan, status, since, until = "free", "free", first, month_start(first + timedelta(days=40))
        else:
            item = held["items"]["data"][0]
            plan, status = _plan_of(item["price"]), held["status"]
            since, until = _at(item["current_period_start"]), _at(item["current_period_end"])
        counted = self.made(since, until)
        refused = until if plan == "free" and counted >= FREE_REFUSED else None
        assert (account.offer.split("_")[0], account.status) == (plan, status)
        assert (account.counted, account.refused_until) == (counted, refused)
        self.happened["past due"] += status == "past_due"
        self.happened["refused by plan"] += refused is not None

    def check(self) -> int:
        """Everything it was told of and invoiced is what it used; returns how many invoices that were."""
        rows = PlanReport.objects.filter(tenant_id=self.tenant_id)
        assert {row.state for row in rows} <= {"delivered", "abandoned"}
        told = {row.key: row.requests for row in rows if row.state in ACTIVE}
        events = self._mine("meter_event")
        assert max(Counter(each["identifier"] for each in events).values(), default=0) <= 1
        assert {each["identifier"]: each["value"] for each in events} == told
        by_hour: dict[datetime, int] = defaultdict(int)
        for row in rows:
            by_hour[row.hour] += row.requests if row.state in ACTIVE else 0
        for held in self._mine("subscription"):
            since, until = (
                hour_of(_at(held["created"])),
                hour_of(_at(held["ended_at"] or self.now.timestamp())),
            )
            wanted = {at: many for at, many in self.used.items() if since <= at < until}
            assert {at: many for at, many in by_hour.items() if since <= at < until and many} == wanted
        self._check_alerts()
        return self._check_invoices()

    def _check_invoices(self) -> int:
        prices = {each["id"]: each for each in self.platform.double.objects("price", key=PLATFORM_KEY)}
        invoices = [each for each in self._mine("invoice") if each["status"] != "draft"]
        metered: list[tuple[datetime, datetime]] = []
        for invoice in invoices:
            lines = invoice["lines"]["data"]
            assert invoice["total"] == sum(line["amount"] for line in lines)
            for line in lines:
                since, until = (_at(line["period"][end]) for end in ("start", "end"))
                price = prices[line["pricing"]["price_details"]["price"]]
                plan = _plan_of(price)
                if price["recurring"]["usage_type"] == "metered":
                    metered.append((since, until))
                    made = self.made(since, until)
                    assert line["quantity"] == made
                    self.happened["requests beyond"] += max(0, made - SOLD[plan][1])
                    assert line["amount"] == (0 if self._is_trial(since) else beyond(plan, made))
                elif line["parent"]["type"] == "subscription_item_details":
                    assert line["amount"] == (0 if self._is_trial(since) else SOLD[plan][0])
        self._check_covered(sorted(metered))
        self._check_changes(invoices, prices)
        return len(invoices)

    def _check_covered(self, metered: list[tuple[datetime, datetime]]) -> None:
        """Lines of use tile the time that was paid for, but for what a change found to be included."""
        for held in self._mine("subscription"):
            at = _at(held["created"])
            mine = [each for each in metered if each[0] >= at and each[0] < _at(held["ended_at"] or 2**31)]
            for since, until in mine:
                if since > at:
                    assert since in self.changes
                    assert beyond("team", self.made(at, since)) == 0
                assert since >= at
                at = until
            self.happened["periods invoiced"] += len(mine)

    def _check_changes(self, invoices: list[dict[str, Any]], prices: dict[str, Any]) -> None:
        """What a change gives back and asks for is the share of the period that is left, to the second."""
        for at in self.changes:
            found = {}
            ends: list[datetime] = []
            for line in (line for invoice in invoices for line in invoice["lines"]["data"]):
                price = prices[line["pricing"]["price_details"]["price"]]
                licensed = price["recurring"]["usage_type"] == "licensed"
                if licensed and _at(line["period"]["start"]) == at:
                    found[_plan_of(price)] = line["amount"]
                    ends.append(_at(line["period"]["end"]))
            assert len(found) == 2
            assert min(found.values()) < 0 < max(found.values())
            until = ends[0]
            since = max(_renewals(until))
            share = Decimal((until - at).total_seconds()) / Decimal((until - since).total_seconds())
            whole = {plan: int((SOLD[plan][0] * share).quantize(Decimal(1), ROUND_HALF_UP)) for plan in found}
            assert {plan: abs(amount) for plan, amount in found.items()} == whole

    def _is_trial(self, since: datetime) -> bool:
        """Whether a period is the trial: the first of the first subscription."""
        first = min(self._mine("subscription"), key=lambda each: int(each["created"]))
        return since < _at(first["trial_end"])

    def _check_alerts(self) -> None:
        """Of a month on the free plan alone each share that was passed is told once."""
        if self.habits.deeds:
            return
        months = {month_start(at) for at in self.used}
        wanted = {
            f"plan_requests:free_2026_12:{first:%Y-%m-%dT%H:%M}:{share}"
            for first in months
            for share in (80, 100, 120)
            if self.made(first, month_start(first + timedelta(days=40))) * 100 >= FREE_REQUESTS * share
        }
        found = Alert.objects.filter(tenant_id=self.tenant_id, kind="plan_requests")
        assert Counter(found.values_list("dedupe_key", flat=True)) == Counter(wanted)


def beyond(plan: str, requests: int) -> int:
    """What requests beyond the included ones cost, in cents."""
    _, included, cents = SOLD[plan]
    exact = max(0, requests - included) * cents / 1_000
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def _renewals(until: datetime) -> list[datetime]:
    """The same day and time of the month before."""
    last = until.replace(day=1) - timedelta(days=1)
    return [last.replace(day=until.day)]


def _plan_of(price: dict[str, Any]) -> str:
    return str(price["lookup_key"]).removeprefix("noburn_plan_").split("_")[0]


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
