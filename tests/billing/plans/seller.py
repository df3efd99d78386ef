"""noburn as a seller of its own plans, in a test: one tenant that uses and buys, and a clock that both share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from django.conf import settings

from alerts.models import Alert
from billing.domain.plans import month_of
from billing.models import EventState, PlanAccount, PlanCursor, PlanReport, StripeEvent
from billing.queries import plan_counts
from billing.services import plan_changes, plan_reports, plans, stripe_inbox
from tests.billing.book import Book
from tests.doubles.stripe import StripeDouble

PLATFORM_KEY = "sk_test_noburn_platform"
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = month_of(TODAY - timedelta(days=45))[0]
"""The first of a month that is over: sums of usage are complete until now alone, so tests live in the past."""

PAGES = {"success_url": "https://noburn.example/ok", "cancel_url": "https://noburn.example/no"}
ROUNDS_MAX = 200
REQUESTS_MAX = 30_000
"""Of one entry: what a lease draws is a small integer."""


def book_requests(book: Book, requests: int, at: datetime) -> None:
    """Books so many settled calls: entries of the ledger that stand for many, as what is drawn from a lease does."""
    whole, rest = divmod(abs(requests), REQUESTS_MAX)
    sign = -1 if requests < 0 else 1
    book.owner.execute(
        """INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, project,
            cost_nano, tokens, requests, counters, deltas)
        SELECT gen_random_uuid(), date_trunc('month', %(at)s::timestamptz, 'UTC')::date, 1, %(tenant)s,
            'settled', %(at)s, 'web', 0, 0, r.requests, '{}', '{}'
        FROM unnest(%(many)s::smallint[]) AS r (requests)""",
        {
            "at": at,
            "tenant": book.tenant_id,
            "many": [sign * each for each in [REQUESTS_MAX] * whole + [rest] if each],
        },
    )


def forget_what_was_used() -> None:
    """What other tests' tenants used before is not counted."""
    PlanCursor.objects.update_or_create(only_row=True, defaults={"position": plan_counts.rolled_to()})


class Seller:
    """Alice's plan. `now` is the time that everything is told."""

    def __init__(self, book: Book, double: StripeDouble) -> None:
        self.book, self.double = book, double
        self.tenant_id = book.tenant_id
        self.now = START
        self.client = double.client(PLATFORM_KEY)

    def open(self) -> str:
        """Makes the platform's endpoint, and returns its secret."""
        made = self.client.v1.webhook_endpoints.create(
            {"url": "https://noburn.example/stripe/webhooks/platform", "enabled_events": ["*"]}
        )
        self.close()
        forget_what_was_used()
        return str(made.secret)

    def close(self) -> None:
        """Puts to rest what is left: sweeps look at every tenant."""
        StripeEvent.objects.filter(state=EventState.PENDING).update(state=EventState.IGNORED)
        PlanAccount.objects.update(next_report_at=None, counted_at=None)
        PlanReport.objects.filter(state="pending").update(state="abandoned", finished_at=self.now)

    # --- time and use -----------------------------------------------------------------------------------

    def to(self, at: datetime) -> None:
        """Moves both clocks on to a time."""
        self.double.move(at)
        self.now = at

    def later(self, **much: float) -> None:
        """Moves both clocks on."""
        self.to(self.now + timedelta(**much))

    def use(self, requests: int, at: datetime | None = None) -> None:
        """So many settled calls; what is negative was taken back."""
        book_requests(self.book, requests, at or self.now)
        self.book.roll()

    def count(self) -> PlanAccount:
        """Counts what is due, and returns the tenant's plan."""
        while plans.count_due(now=self.now):
            continue
        return self.account()

    def account(self) -> PlanAccount:
        """The plan as it stands."""
        return plans.ensure_account(tenant_id=self.tenant_id, now=self.now)

    def report(self) -> list[int]:
        """Tells Stripe what closed hours came to; returns everything that was ever told, in order."""
        for _ in range(ROUNDS_MAX):
            if not plan_reports.freeze_due(now=self.now) + plan_reports.push_due(now=self.now):
                break
        rows = PlanReport.objects.filter(tenant_id=self.tenant_id).order_by("hour", "seq")
        return [row.requests for row in rows]

    # --- buying -----------------------------------------------------------------------------------------

    def buy(self, plan: str = "team", card: str = "pm_card_visa") -> PlanAccount:
        """Alice goes through Checkout, and noburn hears of it."""
        session, _ = plan_changes.checkout(
            tenant_id=self.tenant_id, plan=plan, key=uuid4().hex, now=self.now, **PAGES
        )
        self.double.pay_checkout(session, key=PLATFORM_KEY, card=card)
        self.events()
        return self.account()

    def change(self, plan: str) -> PlanAccount:
        """Alice changes her plan."""
        return plan_changes.change(
            tenant_id=self.tenant_id, plan=plan, key=uuid4().hex, actor="user:alice", now=self.now
        )

    def events(self, **how: Any) -> int:
        """Takes in what the double sends, and handles it; returns how many events that were."""
        sent = self.double.deliveries(**how)
        for each in sent:
            stripe_inbox.receive(
                endpoint="platform",
                body=each["body"].encode(),
                signature=each["headers"]["Stripe-Signature"],
                now=self.now,
            )
        for _ in range(ROUNDS_MAX):
            if not stripe_inbox.handle_batch(now=self.now, chance=lambda: 0.5):
                break
        return len(sent)

    # --- what there is ----------------------------------------------------------------------------------

    def alerts(self, kind: str = "plan_requests") -> list[dict[str, Any]]:
        """What the tenant was told, the smaller shares first."""
        found = Alert.objects.filter(tenant_id=self.tenant_id, kind=kind, silent=False)
        return sorted((dict(row.details) for row in found), key=lambda row: int(row.get("percent", 0)))

    def invoices(self) -> list[int]:
        """The totals of the platform's invoices to Alice, in cents."""
        wanted = self.account().stripe_customer
        found = self.double.objects("invoice", key=PLATFORM_KEY)
        return [each["total"] for each in found if each["customer"] == wanted and each["status"] != "draft"]

    @property
    def secret(self) -> str:
        """The secret of the platform's endpoint."""
        return str(settings.STRIPE_PLATFORM_WEBHOOK_SECRET)
