"""Links: which customer is which at Stripe. Asked for over the API, made by workers, kept true by webhooks."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction

from billing.domain.pushing import backoff_seconds, month_of
from billing.domain.sink import SinkBusy, SinkError, SinkRefused, SinkUnavailable
from billing.models import (
    AccountState,
    LinkState,
    Measurement,
    MeasurementState,
    StripeAccount,
    StripeLink,
)
from billing.services import hints
from billing.services.periods import ensure_periods
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, access_of, connected_account
from billing.stores import due
from billing.stripe import customers as stripe_customers
from billing.stripe.customers import Subscribed
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.sealing import Unreadable
from tenants.models import Customer
from tenants.services import audit
from tenants.services.tenants import email_errors, lock_tenant

log = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=5)
LINKS_AT_ONCE: Final = 20
_STRIPE_CUSTOMER: Final = re.compile(r"cus_[A-Za-z0-9_]{6,48}", re.ASCII)
_chance = random.SystemRandom().random


class InvalidLink(Invalid):
    """A link that breaks rules."""


class LinkNotFound(Missing):
    """The tenant's customer has no link."""


@dataclass(frozen=True, kw_only=True)
class NewLink:
    """A customer (its own id) to be linked: to the given one of Stripe's, else to the one that is found by our mark or
    the e-mail address, else to a new one. Without `subscription` it is only linked."""

    customer: str
    stripe_customer: str = ""
    email: str = ""
    subscription: bool = True

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = []
        if self.stripe_customer and not _STRIPE_CUSTOMER.fullmatch(self.stripe_customer):
            errors.append(FieldError("stripe_customer", "must be a customer of Stripe's, cus_…"))
        if self.email:
            errors += email_errors("email", self.email)
        return errors


def link(*, tenant_id: UUID, wanted: NewLink, actor: str, now: datetime) -> StripeLink:
    """Links a customer, or links it anew; workers do it. Raises TenantNotFound, NotConnected, InvalidLink."""
    errors = wanted.errors()
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        connected_account(tenant_id=tenant_id)
        customer = Customer.objects.filter(tenant_id=tenant_id, external_id=wanted.customer).first()
        if customer is None:
            errors.append(FieldError("customer", "is no customer of yours"))
        if wanted.stripe_customer and not errors:
            taken = StripeLink.objects.filter(tenant_id=tenant_id, stripe_customer=wanted.stripe_customer)
            if taken.exclude(customer=customer).exists():
                errors.append(FieldError("stripe_customer", "is linked to another customer of yours"))
        if errors or customer is None:
            raise InvalidLink(errors)
        row = StripeLink.objects.select_for_update().filter(tenant_id=tenant_id, customer=customer).first()
        before = None if row is None else seen(row)
        if row is None:
            row = StripeLink(
                id=ids.new_uuid(now), tenant_id=tenant_id, customer=customer, created_at=now, version=0
            )
        if wanted.stripe_customer and row.stripe_customer != wanted.stripe_customer:
            _readdress(row, now)
            row.stripe_customer, row.subscription, row.subscription_status = wanted.stripe_customer, "", ""
        row.email = wanted.email or row.email
        row.wants_subscription = wanted.subscription
        row.state, row.problem, row.tries, row.next_attempt_at = LinkState.PENDING, "", 0, now
        row.version += 1
        row.updated_at = now
        row.save()
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="stripe_link.save",
            object=ids.encode(ids.STRIPE_LINK, row.pk),
            before=before,
            after=seen(row),
            now=now,
        )
        hints.ask_for(hints.SET_UP)
    return row


def unlink(*, tenant_id: UUID, link_id: UUID, actor: str, now: datetime) -> None:
    """Takes a link away; its subscription goes on at Stripe, and nothing more is told there. Raises LinkNotFound.

    A customer whose usage was told already keeps its link: it can be linked to another one of Stripe's, not to none.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = StripeLink.objects.select_for_update().filter(tenant_id=tenant_id, pk=link_id).first()
        if row is None:
            raise LinkNotFound(str(link_id))
        if row.frozen_until is not None:
            raise InvalidLink(
                [FieldError("link", "usage was told by it already: link the customer anew instead")]
            )
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="stripe_link.remove",
            object=ids.encode(ids.STRIPE_LINK, row.pk),
            before=seen(row),
            now=now,
        )
        row.delete()


def link_due(*, now: datetime, chance: Callable[[], float] = _chance) -> int:
    """Makes one link that waits; returns how many there were, 0 or 1. Links of accounts that are not ready wait."""
    ready = StripeAccount.objects.filter(state=AccountState.READY).values("tenant_id")
    waiting = StripeLink.objects.filter(state=LinkState.PENDING, tenant_id__in=ready)
    row = due.take(waiting, now=now, lease=LEASE)
    if row is None:
        return 0
    _make(row, now, chance())
    return 1


def _make(row: StripeLink, now: datetime, chance: float) -> None:
    account = connected_account(tenant_id=row.tenant_id)
    customer = Customer.objects.get(pk=row.customer_id)
    try:
        _note_the_end(account, row, now)
        found, subscribed = _find_or_make(account, row, customer, now)
    except (SinkUnavailable, SinkBusy) as error:
        again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
        _waiting(row).update(problem=str(error)[:300], next_attempt_at=again_at)
        return
    except (SinkError, NoPlatformKey, Unreadable) as error:
        _waiting(row).update(state=LinkState.FAILED, problem=str(error)[:300], updated_at=now)
        return
    with transaction.atomic():
        fresh = StripeLink.objects.select_for_update().filter(pk=row.pk, version=row.version).first()
        if fresh is None or fresh.state != LinkState.PENDING:
            return  # It was changed meanwhile, and is due again.
        fresh.stripe_customer, fresh.state, fresh.problem = found, LinkState.LINKED, ""
        fresh.next_freeze_at = now
        fresh.updated_at = now
        if subscribed is not None:
            take_subscription(fresh, subscribed)
        try:
            with transaction.atomic():
                fresh.save()
        except IntegrityError:
            problem = f"{found} is linked to another customer of yours"
            _waiting(row).update(state=LinkState.FAILED, problem=problem, updated_at=now)
            return
        ensure_periods(account=account, link=fresh, now=now)


def _note_the_end(account: StripeAccount, row: StripeLink, now: datetime) -> None:
    """Of a customer that is linked anew, notes where its earlier subscription ended: its last invoice goes to there."""
    if row.subscription:
        try:
            refresh_subscription(account=account, link_id=row.pk, now=now)
        except SinkRefused as error:
            log.info("where %s ended is not known: %s", row.subscription, error)


def _waiting(row: StripeLink) -> Any:
    return StripeLink.objects.filter(pk=row.pk, version=row.version, state=LinkState.PENDING)


def _find_or_make(
    account: StripeAccount, row: StripeLink, customer: Customer, now: datetime
) -> tuple[str, Subscribed | None]:
    access, mark = access_of(account), ids.encode(ids.CUSTOMER, customer.pk)
    found = row.stripe_customer
    if found:
        stripe_customers.check_customer(access, customer=found)
    else:
        found = stripe_customers.find_customer(access, mark=mark, email=row.email) or (
            stripe_customers.create_customer(
                access, mark=mark, name=customer.name or customer.external_id, email=row.email
            )
        )
    reached("customer made")
    if not row.wants_subscription:
        return found, stripe_customers.find_subscription(access, customer=found, price_id=account.price_id)
    subscribed = stripe_customers.ensure_subscription(
        access,
        customer=found,
        price_id=account.price_id,
        mark=mark,
        # On the first of each month at 00:00 UTC, so that periods are calendar months.
        renews_at=month_of(now)[1],
    )
    reached("subscription made")
    return found, subscribed


def refresh_subscription(*, account: StripeAccount, link_id: UUID, now: datetime) -> StripeLink | None:
    """Reads a link's subscription from Stripe and writes what it says; None when the link is gone. Raises SinkError.

    Whatever order webhooks come in, what is written is what Stripe says now: of one that ended, the one that follows it,
    if there is one.
    """
    row = StripeLink.objects.filter(pk=link_id).first()
    if row is None or not row.stripe_customer:
        return row
    access = access_of(account)
    before, told = None, None
    if row.subscription:
        before = told = stripe_customers.read_subscription(
            access, subscription=row.subscription, price_id=account.price_id
        )
    if before is None or before.ended:
        told = (
            stripe_customers.find_subscription(
                access, customer=row.stripe_customer, price_id=account.price_id
            )
            or before
        )
    if told is None:
        return row
    with transaction.atomic():
        fresh = StripeLink.objects.select_for_update().filter(pk=link_id).first()
        if fresh is None or fresh.subscription not in ("", row.subscription, told.id):
            return fresh
        # The period that was is noted before it is forgotten, however long nobody looked; and where it ended.
        ensure_periods(account=account, link=fresh, now=now)
        if before is not None and before is not told and fresh.subscription == before.id:
            take_subscription(fresh, before)
            ensure_periods(account=account, link=fresh, now=now)
        take_subscription(fresh, told)
        fresh.updated_at = now
        fresh.save()
        ensure_periods(account=account, link=fresh, now=now)
    return fresh


def take_subscription(row: StripeLink, told: Subscribed) -> None:
    """Puts what Stripe says of a subscription into a link, without saving it."""
    row.subscription, row.subscription_status = told.id, told.status
    row.period_starts_at, row.period_ends_at = told.period_starts_at, told.period_ends_at


def _readdress(row: StripeLink, now: datetime) -> None:
    """Tells anew what waits for another customer of Stripe's: what was never sent goes, what may have been is unclear."""
    waiting = Measurement.objects.filter(
        tenant_id=row.tenant_id, customer_id=row.customer_id, state=MeasurementState.PENDING
    )
    waiting.filter(first_sent_at=None).update(
        state=MeasurementState.ABANDONED, finished_at=now, outcome="readdressed"
    )
    waiting.exclude(first_sent_at=None).update(
        state=MeasurementState.UNCLEAR,
        finished_at=now,
        outcome="readdressed",
        error="the customer was linked to another one at Stripe while this was under way",
    )


def seen(row: StripeLink) -> dict[str, Any]:
    """What the audit log shows of a link."""
    return {
        "customer": ids.encode(ids.CUSTOMER, row.customer_id),
        "stripe_customer": row.stripe_customer,
        "subscription": row.wants_subscription,
        "state": row.state,
    }
