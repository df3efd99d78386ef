"""One tenant's billing in a test: use, cards, links and pushes, by a clock that noburn and the double share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from billing.domain.pushing import month_of, next_close
from billing.domain.rate_card_reading import read_terms
from billing.models import (
    AccountState,
    BillingPeriod,
    EventState,
    Measurement,
    Reconciliation,
    StripeAccount,
    StripeEvent,
    StripeLink,
)
from billing.services import freezing, pushing, reconciling, stripe_inbox, stripe_links, stripe_setup
from billing.services.rate_cards import NewVersion, assign_card, create_rate_card
from billing.services.stripe_accounts import AccountChanges, Connection, change, connect
from noburn.kit import ids
from tenants.models import Customer
from tenants.services.customers import ensure_customer
from tests.billing.book import Book
from tests.doubles.stripe import StripeDouble

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
START = month_of(TODAY - 45 * DAY)[0]
"""The first of a month that is over, and so recent that its hours are kept. The month after it is at least half over:
what is added up is complete until now alone, so tests live in the past."""

NEXT = month_of(START)[1]
EARLIER = START - 60 * DAY
MICRO = 1_000
URL = "https://noburn.example.com/stripe/webhooks/x"
ROUNDS_MAX = 200
ACTOR = "user:alice"


def forget_others() -> None:
    """Puts to rest what other tests left: sweeps look at every tenant."""
    StripeAccount.objects.exclude(state=AccountState.DISCONNECTED).update(state=AccountState.DISCONNECTED)
    StripeEvent.objects.filter(state=EventState.PENDING).update(state=EventState.IGNORED)


class Till:
    """Billing of one tenant. `now` is the time that everything is told."""

    def __init__(self, book: Book, double: StripeDouble) -> None:
        self.book, self.double = book, double
        self.tenant_id = book.tenant_id
        self.key = f"rk_test_{uuid4().hex}"
        self.now = START
        self.secrets: list[str] = []
        self.at_step: Callable[[str], None] | None = None

    # --- set-up -----------------------------------------------------------------------------------------

    def open(self, *, markup_percent: str = "0", **terms: Any) -> None:
        """Makes a card for everybody, connects the account and sets it up."""
        self.double.set_clock(self.now)
        self.double.settings(signed_at="clock")
        self.card({"markup_percent": markup_percent, **terms})
        self.hook("invoice.*")
        self.connect()
        self.set_up()
        assert self.account().state == AccountState.READY, self.account().problem

    def card(self, terms: dict[str, Any], customer: str | None = None) -> None:
        """A rate card for everybody, or for one customer, from long ago."""
        made, _ = create_rate_card(
            tenant_id=self.tenant_id,
            name=uuid4().hex,
            version=NewVersion(terms=read_terms(terms)),
            actor="test",
            now=EARLIER,
        )
        assign_card(
            tenant_id=self.tenant_id,
            card_id=made.pk,
            customers=None if customer is None else [customer],
            effective_from=EARLIER,
            actor="test",
            now=EARLIER,
        )

    def hook(self, *_types: str) -> None:
        """Endpoints at the double, for snapshots and for thin events."""
        client = self.double.client(self.key)
        made = client.v1.webhook_endpoints.create({"url": URL, "enabled_events": ["*"]})
        assert made.secret is not None
        thin = client.v2.core.event_destinations.create(
            {
                "name": "noburn",
                "type": "webhook_endpoint",
                "event_payload": "thin",
                "enabled_events": [
                    "v1.billing.meter.error_report_triggered",
                    "v1.billing.meter.no_meter_found",
                ],
                "webhook_endpoint": {"url": URL},
                "include": ["webhook_endpoint.signing_secret"],
            }
        )
        assert thin.webhook_endpoint is not None
        self.secrets = [made.secret, str(thin.webhook_endpoint.signing_secret)]

    def connect(self, **fields: Any) -> StripeAccount:
        """Connects the tenant's account by its key."""
        return connect(
            tenant_id=self.tenant_id,
            connection=Connection(
                **{"secret_key": self.key, "webhook_secrets": self.secrets, "billed_from": self.now, **fields}
            ),
            actor=ACTOR,
            now=self.now,
        )

    def change(self, **fields: Any) -> StripeAccount:
        """Changes the connection."""
        return change(tenant_id=self.tenant_id, changes=AccountChanges(**fields), actor=ACTOR, now=self.now)

    def set_up(self) -> None:
        """Does everything that set-up and links wait for."""
        _until_none(
            lambda: (
                stripe_setup.set_up_due(now=self.now, chance=half)
                + stripe_links.link_due(now=self.now, chance=half)
            )
        )

    def customer(self, name: str = "acme") -> Customer:
        """A customer of the tenant."""
        return ensure_customer(tenant_id=self.tenant_id, external_id=name, actor="test", now=EARLIER)[0]

    def link(self, name: str = "acme", *, made: bool = True, **fields: Any) -> StripeLink:
        """Links a customer, and has workers make it."""
        self.customer(name)
        row = stripe_links.link(
            tenant_id=self.tenant_id,
            wanted=stripe_links.NewLink(customer=name, **fields),
            actor=ACTOR,
            now=self.now,
        )
        if made:
            self.set_up()
        return self.link_of(name) if made else row

    def link_of(self, name: str = "acme") -> StripeLink:
        """A customer's link as it stands."""
        return StripeLink.objects.get(tenant_id=self.tenant_id, customer__external_id=name)

    def account(self) -> StripeAccount:
        """The account as it stands."""
        return StripeAccount.objects.get(tenant_id=self.tenant_id)

    # --- time and use -----------------------------------------------------------------------------------

    def to(self, at: datetime) -> None:
        """Moves both clocks on to a time."""
        self.double.move(at)
        self.now = at

    def later(self, **much: float) -> None:
        """Moves both clocks on."""
        self.to(self.now + timedelta(**much))

    def use(self, usd_micro: int, at: datetime, name: str = "acme", *, nano: int = 0) -> UUID:
        """A settled call that cost so much."""
        return self.book.call(name, at, cost_nano=usd_micro * MICRO + nano)

    # --- work -------------------------------------------------------------------------------------------

    def freeze(self) -> int:
        """Freezes what is due, after usage was added up; returns how many customers were looked at."""
        self.book.roll()
        return _until_none(lambda: freezing.freeze_due(now=self.now))

    def push(self) -> int:
        """Sends all that is due now; time stands, so the bucket is filled between."""

        def step() -> int:
            StripeAccount.objects.filter(tenant_id=self.tenant_id).update(bucket_tokens=1_000)
            return pushing.push_batch(now=self.now, chance=half)

        return _until_none(step)

    def work(self) -> None:
        """Freezes and pushes."""
        self.freeze()
        self.push()

    def live(self, until: datetime, *, events: bool = True) -> None:
        """Lives on hour by hour until a time, doing every hour what workers do."""
        while self.now < until:
            self.to(min(until, next_close(self.now)))
            self.work()
            if events:
                self.events()

    def events(self, **how: Any) -> int:
        """Takes in what the double sends, and handles it; returns how many events that were."""
        taken = 0
        for _ in range(ROUNDS_MAX):
            sent = self.double.deliveries(**how)
            if not sent:
                break
            for each in sent:
                self.receive(each)
                taken += 1
            _until_none(lambda: stripe_inbox.handle_batch(now=self.now, chance=half))
        return taken

    def receive(self, sent: dict[str, Any]) -> bool:
        """Hands one event over as an endpoint gets it."""
        return stripe_inbox.receive(
            endpoint=ids.encode(ids.STRIPE_ACCOUNT, self.account().pk),
            body=sent["body"].encode(),
            signature=sent["headers"]["Stripe-Signature"],
            now=self.now,
        )

    def reconcile(self, **options: Any) -> list[Reconciliation]:
        """Compares everything."""
        self.book.roll()
        return reconciling.reconcile(tenant_id=self.tenant_id, now=self.now, **options)

    # --- what there is ----------------------------------------------------------------------------------

    def rows(self, name: str = "acme") -> list[Measurement]:
        """The outbox of a customer, in order."""
        found = Measurement.objects.filter(tenant_id=self.tenant_id, customer__external_id=name)
        return list(found.order_by("window_starts_at", "seq"))

    def values(self, name: str = "acme") -> list[int]:
        """What it tells, in micro-USD."""
        return [row.value_micro for row in self.rows(name)]

    def states(self, name: str = "acme") -> list[str]:
        """What became of it."""
        return [row.state for row in self.rows(name)]

    def counted(self, name: str = "acme") -> int:
        """What the double has of a customer, whatever the period."""
        wanted = self.link_of(name).stripe_customer
        found = self.double.objects("meter_event", key=self.key)
        return sum(each["value"] for each in found if each["customer"] == wanted and not each["cancelled"])

    def invoices(self, name: str = "acme") -> list[dict[str, Any]]:
        """The double's invoices of a customer's use, oldest first."""
        wanted = self.link_of(name).stripe_customer
        found = self.double.objects("invoice", key=self.key)
        return [
            each
            for each in found
            if each["customer"] == wanted and each["billing_reason"] == "subscription_cycle"
        ]

    def periods(self, name: str = "acme") -> list[BillingPeriod]:
        """A customer's periods, in order."""
        found = BillingPeriod.objects.filter(tenant_id=self.tenant_id, customer__external_id=name)
        return list(found.order_by("starts_at"))


def half() -> float:
    """No chance."""
    return 0.5


def _until_none(step: Callable[[], int]) -> int:
    total = 0
    for _ in range(ROUNDS_MAX):
        done = step()
        total += done
        if not done:
            return total
    raise AssertionError("there is no end of it")
