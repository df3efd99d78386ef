"""Tenants and their customers through months: they use, settle late, change cards, prices, subscriptions and wallets;
Stripe and workers fail meanwhile.

A day is: what was used, what came late, what changed; then the workers' round, in which requests fail, answers are
lost and workers die; then Stripe's webhooks, in any order and some twice. One clock is noburn's and the double's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from billing.domain.pushing import LAG, hour_of
from billing.domain.rate_card_reading import read_terms
from billing.models import CreditNote, Measurement, RateCard, StripeAccount, StripeInvoice
from billing.services import credit_notes, freezing, pushing, reconciling, stripe_inbox
from billing.services.invoices import NO_INVOICE_AFTER
from billing.services.rate_cards import NewVersion, append_version, assign_card, create_rate_card
from billing.services.sending import CHECKING
from tests.billing.book import Book
from tests.billing.push.processes import killed
from tests.billing.push.till import DAY, EARLIER, HOUR, Till
from tests.billing.year.buyers import EVERYBODY, Buyer, Platform
from tests.billing.year.contracts import MODEL, PROVIDER, Contract
from tests.billing.year.deaths import DEATHS, PLAN_DEATHS, STEPS, Death, Dying
from tests.billing.year.purses import Purse
from tests.billing.year.subscribers import cancel, is_subscribed, subscribe
from tests.billing.year.truth import Call, Name, Truth, month_start
from tests.doubles.stripe import StripeDouble

MINUTE = timedelta(minutes=1)
FAULTS = (
    "error_before", "error_after", "drop_before", "drop_after", "hang_before", "hang_after", "rate_limit", "lock",
)  # fmt: skip
HANG_SECONDS = 0.02
OLD = timedelta(days=50)
"""When what was presumed is settled at the latest: periods are looked at every hour for 70 days."""

INVOICES_FINAL = 2
"""The last day of a month on which something may become final of which the month before is made."""

ROUNDS_MAX = 40
LAST_TOKENS = 2_000_000_000


@dataclass
class Chances:
    """How much of everything a day brings; of a hundred."""

    call: int = 60
    presumed: int = 8
    late: int = 10
    reprice: int = 15
    card: int = 4
    credit: int = 3
    subscription: int = 5
    present: int = 10
    fault: int = 35
    second_round: int = 25
    death: int = 12
    """In this process: the worker's code ends at a step."""


@dataclass
class Life:
    """Some tenants' year. Up to `kills` times a worker's process is killed for real, at one step after another."""

    owner: psycopg.Connection[Any]
    tenants: list[UUID]
    double: StripeDouble
    starts_at: datetime
    customers: int
    seed: int
    kills: int = 0
    wallets: int = 1
    """Of so many tenants the first customer has a wallet."""

    buying: list[UUID] = field(default_factory=list)
    """Other tenants, with noburn's own plans: each has the habits of buyers.EVERYBODY in turn."""

    chances: Chances = field(default_factory=Chances)
    truth: Truth = field(default_factory=Truth)
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # A life must be repeatable, not secret.
        self.now = self.starts_at
        self.double.reset(self.starts_at)
        self.double.settings(signed_at="clock")
        self.tills = [Till(Book(self.owner, tenant), self.double) for tenant in self.tenants]
        self.cards: dict[UUID, RateCard] = {}
        self.contracts: dict[UUID, Contract] = {}
        self.purses: dict[Name, Purse] = {}
        self.away: dict[Name, datetime] = {}
        """Customers without a subscription, and when they have one again."""

        self.unasked: dict[Name, datetime] = {}
        """Those whose subscription ended without an invoice, and when reconciliation will have found that out."""

        self.dark_until = self.ends_at = self.starts_at
        self.deaths = [*(DEATHS if self.tenants else ()), *(PLAN_DEATHS if self.buying else ())]
        self.presumed: list[UUID] = []
        self.platform = Platform(self.double) if self.buying else None
        self.buyers = [
            Buyer(Book(self.owner, tenant), self.platform, EVERYBODY[at], self.now, self.happened)
            for at, tenant in enumerate(self.buying)
            if self.platform is not None
        ]
        for till in self.tills:
            self._open(till)
        self.accounts = {self.double.account(till.key): till for till in self.tills}
        for till in self.tills[: self.wallets]:
            purse = Purse(till, self.names[0], self.now)
            self.purses[till.tenant_id, purse.customer] = purse

    # --- set-up -----------------------------------------------------------------------------------------

    def _open(self, till: Till) -> None:
        till.now = self.now
        markup = self.chance.randrange(0, 80, 5)
        self.cards[till.tenant_id] = self._card(till, markup)
        assign_card(
            tenant_id=till.tenant_id,
            card_id=self.cards[till.tenant_id].pk,
            customers=None,
            effective_from=EARLIER - 400 * DAY,
            actor="test",
            now=EARLIER - 400 * DAY,
        )
        self.truth.default[till.tenant_id].append((EARLIER - 400 * DAY, markup))
        self.contracts[till.tenant_id] = Contract(till.tenant_id, self._price(), self.now)
        till.hook()
        till.connect()
        till.set_up()
        for name in self.names:
            # With a card: a subscription that nobody pays for ends, and with it what is invoiced.
            customer = till.link(name).stripe_customer
            client = self.double.client(till.key)
            method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer})
            client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})

    def _card(self, till: Till, markup: int) -> RateCard:
        made, _ = create_rate_card(
            tenant_id=till.tenant_id,
            name=f"card {len(self.cards)}-{self.chance.getrandbits(48):x}",
            version=NewVersion(terms=read_terms({"markup_percent": str(markup)})),
            actor="test",
            now=EARLIER - 400 * DAY,
        )
        return made

    @property
    def names(self) -> list[str]:
        """The customers of each tenant."""
        return [f"customer-{at}" for at in range(self.customers)]

    def dice(self, of_a_hundred: int) -> bool:
        """Whether something happens."""
        return self.chance.randrange(100) < of_a_hundred

    # --- a day ------------------------------------------------------------------------------------------

    def live(self, days: int, *, quiet: bool = False) -> None:
        """Lives so many days; quiet ones bring nothing new."""
        for _ in range(days):
            self._day(quiet)

    def _day(self, quiet: bool) -> None:
        midnight = self.now.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        for till in self.tills:
            if quiet:
                self._last_use(till, midnight - DAY)
            else:
                self._use(till, midnight - DAY)
                self._change(till, midnight)
            if self.now >= self.dark_until:
                self._subscriptions(till, quiet)
        self._buyers(midnight - DAY)
        if not quiet:
            self._misfortune()
        # The last hour of the day is closed; an invoice that renews at midnight is still a draft.
        self._to(midnight + LAG + MINUTE)
        self._work()
        self._to(midnight + 3 * HOUR)
        # A second time when invoices became final in between, and now and then.
        if midnight.day <= INVOICES_FINAL or self.dice(self.chances.second_round):
            self._work()
        self._hear()
        if self.now >= self.dark_until + DAY:
            for buyer in self.buyers:
                buyer.check_day()

    def _all(self) -> list[Till | Buyer]:
        return [*self.tills, *self.buyers]

    def _to(self, at: datetime) -> None:
        self.double.move(at)
        self.now = at
        for one in self._all():
            one.now = at

    def _use(self, till: Till, day: datetime) -> None:
        for name in self.names:
            customer = (till.tenant_id, name)
            while self.dice(self.chances.call):
                self._call(till, name, day + timedelta(seconds=self.chance.randrange(86_400)))
            if self.dice(self.chances.late):
                # A client that was away for days tells now what it used then.
                self._call(
                    till,
                    name,
                    max(self.starts_at + HOUR, day - timedelta(hours=self.chance.randrange(24 * 20))),
                )
                self.happened["late"] += 1
            if self.dice(self.chances.reprice):
                self._reprice(till, customer)
        for hold in [each for each in self.presumed if self.truth.calls[each].customer[0] == till.tenant_id]:
            if self.dice(10) or self.truth.calls[hold].placed_at < day - OLD:
                self._correct(till, hold)

    def _last_use(self, till: Till, day: datetime) -> None:
        """Once a month so much that nobody's credit is left: Stripe bills no use below zero, so credit waits for use."""
        for name in self.names:
            # The month that the end lies in is not invoiced any more.
            month = month_start(day)
            if month < self.ends_at and month not in self.truth.last[till.tenant_id, name]:
                self.truth.last[till.tenant_id, name].add(month)
                self._call(till, name, day + 12 * HOUR, tokens=LAST_TOKENS)

    def _price(self) -> int:
        return 100 * self.chance.randrange(1, 10)

    def _tokens(self) -> int:
        return self.chance.choice((1, 9, 123, 4_567, 890_123, 12_345_678)) * self.chance.randrange(1, 3)

    def _call(self, till: Till, name: str, at: datetime, *, tokens: int = 0) -> None:
        customer, presumed = (till.tenant_id, name), not tokens and self.dice(self.chances.presumed)
        tokens = tokens or self._tokens()
        cost = tokens * self.contracts[till.tenant_id].price_nano
        by_wallet = customer in self.purses and self.purses[customer].take(at)
        hold = till.book.call(
            name,
            at,
            cost_nano=cost,
            model=f"{PROVIDER}/{MODEL}",
            usage={"input_tokens": tokens},
            state="presumed" if presumed else "settled",
        )
        self.truth.calls[hold] = Call(customer, at, tokens, cost, settled=not presumed, by_wallet=by_wallet)
        if presumed:
            self.presumed.append(hold)
        self.happened["presumed" if presumed else "calls"] += 1

    def _correct(self, till: Till, hold: UUID) -> None:
        """What was presumed is settled after all, at another cost, or was never made."""
        self.presumed.remove(hold)
        call = self.truth.calls[hold]
        if self.dice(25):
            till.book.call(call.customer[1], call.placed_at, state="voided", hold=hold)
            call.cost_nano = 0
        else:
            call.tokens, call.settled = self._tokens(), True
            call.cost_nano = call.tokens * self.contracts[till.tenant_id].price_nano
            till.book.call(
                call.customer[1],
                call.placed_at,
                cost_nano=call.cost_nano,
                usage={"input_tokens": call.tokens},
                hold=hold,
            )
        self.happened["corrected"] += 1

    def _reprice(self, till: Till, customer: Name) -> None:
        """The contract gets another price, and a customer's latest calls get it as well, by a re-rating."""
        contract, since = self.contracts[till.tenant_id], self.now - 20 * DAY
        contract.change(self._price(), self.now)
        changed = 0
        for call in self.truth.calls.values():
            if call.customer == customer and call.settled and since <= call.placed_at < self.now:
                cost = call.tokens * contract.price_nano
                changed += cost != call.cost_nano
                call.cost_nano = cost
        assert contract.rerate(customer[1], since, self.now) == changed
        self.happened["re-rated"] += changed

    def _buyers(self, day: datetime) -> None:
        """Tenants use their own plans, and change them; noburn is told at once."""
        for buyer in self.buyers:
            buyer.plan_day()
            if self.now >= self.dark_until and buyer.act():
                self._hear()
            buyer.use(day, self.chance)

    def _subscriptions(self, till: Till, quiet: bool) -> None:
        """Some end, some begin; noburn is told at once. In the end everybody has one."""
        for name in self.names:
            customer = (till.tenant_id, name)
            if customer in self.away:
                if quiet or self.now >= self.away[customer]:
                    self._subscribe(till, name)
            elif not quiet and self.dice(self.chances.subscription) and is_subscribed(till, name):
                self._cancel(till, name)
            if self.now >= self.unasked.get(customer, self.now + DAY):
                del self.unasked[customer]
                reconciling.reconcile_link(link_id=till.link_of(name).pk, now=self.now)

    def _cancel(self, till: Till, name: str) -> None:
        customer, last = (till.tenant_id, name), self.dice(70)
        cancel(till, name, invoice=last)
        self.truth.bounds[customer].append(hour_of(self.now))
        self.happened["last invoice" if last else "no last invoice"] += 1
        if not last:
            self.unasked[customer] = self.now + NO_INVOICE_AFTER + DAY
        if self.dice(60):
            self._subscribe(till, name)
        else:
            self.away[customer] = self.now + self.chance.randrange(1, 9) * DAY
            self._hear()

    def _subscribe(self, till: Till, name: str) -> None:
        customer = (till.tenant_id, name)
        subscribe(till, name, self.now)
        self.truth.bounds[customer].append(hour_of(self.now))
        self.away.pop(customer, None)
        self._hear()
        assert is_subscribed(till, name)
        self.happened["subscribed anew"] += 1

    def _change(self, till: Till, midnight: datetime) -> None:
        if self.dice(self.chances.card):
            markup = self.chance.randrange(0, 80, 5)
            append_version(
                tenant_id=till.tenant_id,
                card_id=self.cards[till.tenant_id].pk,
                version=NewVersion(
                    terms=read_terms({"markup_percent": str(markup)}), effective_from=midnight + DAY
                ),
                actor="test",
                now=midnight,
            )
            self.truth.default[till.tenant_id].append((midnight + DAY, markup))
            self.happened["card version"] += 1
        if self.dice(self.chances.card):
            # A customer goes over to a plan with a card of its own.
            name, markup = self.chance.choice(self.names), self.chance.randrange(0, 80, 5)
            assign_card(
                tenant_id=till.tenant_id,
                card_id=self._card(till, markup).pk,
                customers=[name],
                effective_from=midnight + DAY,
                actor="test",
                now=midnight,
            )
            self.truth.own[(till.tenant_id, name)].append((midnight + DAY, markup))
            self.happened["own card"] += 1
        if self.dice(self.chances.credit):
            self._credit(till)
        purse = self.purses.get((till.tenant_id, self.names[0]))
        if purse is not None and purse.closed_at is None and self.dice(self.chances.present):
            purse.give(self.now)
            self.happened["present"] += 1

    def close_wallets(self) -> None:
        """Whoever paid beforehand pays by invoice from now on."""
        for purse in self.purses.values():
            purse.close(self.now)

    def _credit(self, till: Till) -> None:
        paid = StripeInvoice.objects.filter(tenant_id=till.tenant_id, status="paid", total__gt=200)
        invoice = paid.order_by("?").first()
        if invoice is None or CreditNote.objects.filter(invoice=invoice).exists():
            return
        credit_notes.credit(
            tenant_id=till.tenant_id,
            invoice_id=invoice.pk,
            wanted=credit_notes.NewCreditNote(
                amount=self.chance.randrange(1, 100), reason="product_unsatisfactory", refund=self.dice(50)
            ),
            actor="user:alice",
            now=self.now,
        )
        self.happened["credit note"] += 1

    # --- work and what disturbs it ----------------------------------------------------------------------

    def _misfortune(self) -> None:
        if self.dice(self.chances.fault):
            kind = self.chance.choice(FAULTS)
            self.double.fault(
                kind, path="meter_events", times=self.chance.randrange(1, 6), seconds=HANG_SECONDS
            )
            self.happened[kind] += 1

    def outage(self, hours: int) -> None:
        """Stripe is away for so long, by the clock. What was under way arrived, and nobody heard."""
        self.double.fault("drop_after", path="meter_events", times=3)
        self.double.fault("dark", hours=hours)
        self.dark_until = self.now + timedelta(hours=hours)
        self.happened["outage"] += 1

    def _work(self) -> None:
        """What workers do in a round: again and again, since what fails waits, and the clock goes on meanwhile."""
        for one in self._all():
            one.book.roll()
            if self.kills and self.dice(10):
                self._kill(one)
        for till in self.tills:
            self._kill_checking(till)
        for purse in self.purses.values():
            purse.work(self.now)
        for _ in range(ROUNDS_MAX):
            step = self.chance.choice([*STEPS]) if self.dice(self.chances.death) else None
            try:
                with Dying(step, self.chance.randrange(1, 4)):
                    if not self._round():
                        break
            except Death:
                self.happened[f"died {step}"] += 1
            self._to(self.now + 2 * MINUTE)
        StripeAccount.objects.update(paused_until=None)

    def _round(self) -> int:
        StripeAccount.objects.update(bucket_tokens=1_000)
        done = credit_notes.issue_due(now=self.now)
        done += freezing.freeze_due(now=self.now)
        done += pushing.push_batch(now=self.now, chance=lambda: 0.5)
        if self.platform is not None:
            done += self.platform.work(self.now)
        return done

    def _kill(self, till: Till | Buyer) -> None:
        """A process of its own does a worker's work, and is killed at the next step in turn."""
        work, step = self.deaths[0]
        if work == "plans" and self.platform is not None:
            if step != "plan frozen":
                self.platform.freeze(self.now)
        elif isinstance(till, Buyer):
            return
        elif work == "push":
            till.freeze()
            due = Measurement.objects.filter(
                tenant_id=till.tenant_id, state="pending", next_attempt_at__lte=self.now
            )
            if not due.exists():
                return
        if not killed(till, work, step):
            return  # There was nothing to freeze.
        self.deaths.append(self.deaths.pop(0))
        self.kills -= 1
        self.happened[f"killed {step}"] += 1
        self._to(self.now + 2 * MINUTE)

    def _kill_checking(self, till: Till) -> None:
        """What nobody answered for a day is looked up at Stripe: a process that has just done so is killed."""
        due = Measurement.objects.filter(
            tenant_id=till.tenant_id, state="pending", outcome=CHECKING, next_attempt_at__lte=self.now
        )
        if self.now >= self.dark_until and due.exists() and killed(till, "push", "checked"):
            self.happened["killed checked"] += 1
            self._to(self.now + 2 * MINUTE)

    def _hear(self) -> None:
        """Takes in what the double sends, shuffled, some of it twice. While Stripe is away it sends nothing either."""
        if self.now < self.dark_until:
            return
        for _ in range(ROUNDS_MAX):
            sent = self.double.deliveries(order="shuffled", duplicates=self.chance.choice((1, 1, 2)))
            self._handle()
            if not sent:
                return
            for each in sent:
                if self.platform is not None and each["account"] == self.platform.account:
                    self.platform.receive(each, self.now)
                else:
                    self.accounts[each["account"]].receive(each)

    def _handle(self) -> None:
        """Handles what is in the inbox; a worker that dies at it leaves its event to another one, minutes later."""
        for _ in range(ROUNDS_MAX):
            step = "handler done" if self.dice(self.chances.death) else None
            try:
                with Dying(step, self.chance.randrange(1, 4)):
                    while stripe_inbox.handle_batch(now=self.now, chance=lambda: 0.5):
                        continue
                return
            except Death:
                self.happened[f"died {step}"] += 1
            self._to(self.now + stripe_inbox.LEASE + MINUTE)

    def quiet_end(self) -> None:
        """The rest of the month without news, and the first days of the next: what came late is carried and invoiced.

        Where that is less than a week, another month: that an ended subscription has no invoice is known after days.
        """
        self.double.heal()
        self.chances = Chances(fault=0, death=0)
        self.ends_at = month_start(month_start(self.now + 7 * DAY) + 40 * DAY)
        self.live((self.ends_at - self.now).days + 2, quiet=True)
