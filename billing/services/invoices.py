"""Invoices: read from Stripe when it says that one changed. A final one closes its period, an unpaid one may suspend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from billing.domain.pushing import DRAFT_MAX, hour_of
from billing.models import BillingPeriod, StripeAccount, StripeInvoice, StripeLink
from billing.services.alerting import customer_delinquent
from billing.services.stripe_access import access_of
from billing.stripe import invoices as stripe_invoices
from billing.stripe.invoices import InvoiceSeen
from noburn.kit import ids
from tenants.models import Customer
from tenants.services.customers import resume_customer, suspend_customer
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

FINAL: Final = frozenset({"open", "paid", "uncollectible", "void"})
"""States in which an invoice's lines never change again."""

UNPAID: Final = frozenset({"past_due", "unpaid"})
FIRST: Final = "subscription_create"
ACTOR: Final = "system"
NO_INVOICE_AFTER: Final = DRAFT_MAX + timedelta(days=1)
"""How long after its end a period without an invoice is taken to have none."""


def refresh_invoice(
    *, account: StripeAccount, link: StripeLink, invoice: str, now: datetime
) -> StripeInvoice:
    """Reads one invoice and writes what it says. Raises SinkError."""
    seen = stripe_invoices.read_invoice(access_of(account), invoice=invoice, price_id=account.price_id)
    return take_invoice(link=link, seen=seen, now=now)


def refresh_invoices(*, account: StripeAccount, link: StripeLink, now: datetime) -> Sequence[StripeInvoice]:
    """Reads a customer's latest invoices: what webhooks that never came would have told. Raises SinkError.

    A period that ended days ago and that none of them bills for is closed with nothing invoiced, so that it is carried.
    """
    seen = stripe_invoices.list_invoices(
        access_of(account), customer=link.stripe_customer, price_id=account.price_id
    )
    found = [take_invoice(link=link, seen=each, now=now) for each in seen]
    drafts = any(each.status == "draft" for each in seen)
    if not drafts:
        BillingPeriod.objects.filter(
            tenant_id=link.tenant_id,
            customer_id=link.customer_id,
            closed_at=None,
            ends_at__lt=now - NO_INVOICE_AFTER,
        ).update(closed_at=now, invoiced_micro=0)
    return found


def take_invoice(*, link: StripeLink, seen: InvoiceSeen, now: datetime) -> StripeInvoice:
    """Writes an invoice as it was seen, closes the period that it bills for once it is final, and looks who is late."""
    fields: dict[str, Any] = {
        "customer_id": link.customer_id,
        "number": seen.number,
        "status": seen.status,
        "billing_reason": seen.billing_reason,
        "subscription": seen.subscription,
        "currency": seen.currency,
        "total": seen.total,
        "amount_due": seen.amount_due,
        "amount_paid": seen.amount_paid,
        "usage_micro": seen.usage_micro,
        "period_starts_at": seen.period_starts_at,
        "period_ends_at": seen.period_ends_at,
        "finalized_at": seen.finalized_at,
        "due_at": seen.due_at,
        "attempts": seen.attempts,
        "hosted_url": seen.hosted_url[:2048],
        "pdf_url": seen.pdf_url[:2048],
        "created_at": seen.created_at,
        "seen_at": now,
    }
    with transaction.atomic():
        # Tenant, link, the rest: in the order of everybody else.
        lock_tenant(tenant_id=link.tenant_id)
        fresh = StripeLink.objects.select_for_update().get(pk=link.pk)
        row, _ = StripeInvoice.objects.update_or_create(
            tenant_id=link.tenant_id,
            stripe_id=seen.id,
            defaults=fields,
            create_defaults={**fields, "id": ids.new_uuid(now)},
        )
        if seen.status in FINAL:
            _close_period(fresh, row, now)
        _settle_standing(fresh, row, now)
    return row


def _close_period(link: StripeLink, invoice: StripeInvoice, now: datetime) -> None:
    """Closes the period that an invoice bills for: what it counted is what was told in time."""
    if invoice.usage_micro is None or invoice.period_ends_at is None:
        return
    if invoice.billing_reason == FIRST:
        return  # It begins when an earlier subscription ends, and bills for nothing that was used.
    # Stripe's end, where both have it: ours is a later one if hours after it were told before it was known.
    ended = Q(stripe_ends_at=invoice.period_ends_at) | Q(ends_at=hour_of(invoice.period_ends_at))
    closed = BillingPeriod.objects.filter(
        ended,
        tenant_id=link.tenant_id,
        customer_id=link.customer_id,
        closed_at=None,
        stripe_ends_at__isnull=False,
        ends_at__lte=now,
    ).update(closed_at=now, invoice=invoice.stripe_id, invoiced_micro=invoice.usage_micro)
    if closed:
        link.next_freeze_at = now
        link.save(update_fields=["next_freeze_at"])


def settle_standing(*, link_id: UUID, now: datetime) -> None:
    """Looks whether a customer pays, after its subscription changed."""
    with transaction.atomic():
        row = StripeLink.objects.filter(pk=link_id).first()
        if row is None:
            return
        lock_tenant(tenant_id=row.tenant_id)
        link = StripeLink.objects.select_for_update().get(pk=link_id)
        _settle_standing(link, None, now)


def _settle_standing(link: StripeLink, invoice: StripeInvoice | None, now: datetime) -> None:
    """Notes that a customer is late, or no longer; suspends and resumes it where the tenant wants that.

    Resumed is only whom noburn suspended for this. Tenant and link are locked.
    """
    late = StripeInvoice.objects.filter(
        tenant_id=link.tenant_id,
        customer_id=link.customer_id,
        status="open",
        attempts__gte=1,
        amount_due__gt=F("amount_paid"),
    ).order_by("created_at")
    first = late.first()
    delinquent = first is not None or link.subscription_status in UNPAID
    if delinquent == (link.delinquent_at is not None):
        return
    account = StripeAccount.objects.get(tenant_id=link.tenant_id)
    customer = Customer.objects.get(pk=link.customer_id)
    name = customer.external_id
    if delinquent:
        link.delinquent_at = now
        if account.suspend_delinquent and customer.suspended_at is None:
            suspend_customer(tenant_id=link.tenant_id, external_id=name, actor=ACTOR, now=now)
            link.suspended = True
    else:
        link.delinquent_at = None
        if link.suspended:
            resume_customer(tenant_id=link.tenant_id, external_id=name, actor=ACTOR, now=now)
            link.suspended = False
    link.save(update_fields=["delinquent_at", "suspended"])
    if delinquent:
        about = invoice or first
        customer_delinquent(
            tenant_id=link.tenant_id,
            customer=name,
            invoice=link.subscription if about is None else about.stripe_id,
            suspended=link.suspended,
            now=now,
        )
