"""What noburn does about events that concern usage: error reports of meters, invoices, subscriptions, customers."""

from __future__ import annotations

import logging
from typing import Any

from billing.domain.sink import SinkMissing
from billing.models import AccountState, LinkState, Measurement, StripeAccount, StripeLink
from billing.services import invoices
from billing.services.pushing import fail
from billing.services.stripe_access import access_of
from billing.services.stripe_events import Happened, handles
from billing.services.stripe_links import refresh_subscription
from billing.services.stripe_setup import key_refused
from billing.stripe.metering import meter_errors

log = logging.getLogger(__name__)

METER_GONE = frozenset({"no_meter", "archived_meter"})


@handles("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
def meter_failed(event: Happened) -> None:
    """Marks the measurements that a report names as failed; it names samples only, reconciliation finds the others."""
    account = event.account
    if account is None or account.state == AccountState.DISCONNECTED:
        return
    samples = meter_errors(access_of(account), event_id=event.event_id)
    rows = Measurement.objects.filter(
        tenant_id=account.tenant_id, key__in=[sample.key for sample in samples if sample.key]
    )
    by_key = {row.key: row for row in rows}
    for sample in samples:
        row = by_key.get(sample.key)
        if row is not None:
            fail(row=row, outcome="reported", reason=f"{sample.code}: {sample.message}", now=event.now)
    if any(sample.code in METER_GONE and sample.key in by_key for sample in samples):
        key_refused(account=account, problem="the meter of usage is gone at Stripe", now=event.now)


@handles("invoice.*")
def invoice_changed(event: Happened) -> None:
    """Reads the invoice as it is now. Invoices of customers that are not linked are no matter of ours."""
    account, link = event.account, _link(event, event.object.get("customer"))
    name = event.object.get("id")
    if account is None or link is None or not isinstance(name, str):
        return
    try:
        invoices.refresh_invoice(account=account, link=link, invoice=name, now=event.now)
    except SinkMissing:
        # A draft that was deleted.
        log.info("%s is gone", name)


@handles("customer.subscription.*")
def subscription_changed(event: Happened) -> None:
    """Reads the subscription as it is now, and looks whether its customer pays."""
    account, link = event.account, _link(event, event.object.get("customer"))
    if account is None or link is None or link.state != LinkState.LINKED:
        return
    refresh_subscription(account=account, link_id=link.pk, now=event.now)
    StripeLink.objects.filter(pk=link.pk).update(next_freeze_at=event.now)
    invoices.settle_standing(link_id=link.pk, now=event.now)


@handles("customer.deleted")
def customer_deleted(event: Happened) -> None:
    """Stops a link whose customer is gone at Stripe: what it uses is shown as waiting until it is linked anew."""
    link = _link(event, event.object.get("id"))
    if link is not None:
        StripeLink.objects.filter(pk=link.pk, stripe_customer=link.stripe_customer).update(
            state=LinkState.FAILED, problem="the customer was deleted at Stripe", updated_at=event.now
        )


def _link(event: Happened, customer: Any) -> StripeLink | None:
    if event.account is None or not _usable(event.account) or not isinstance(customer, str) or not customer:
        return None
    return StripeLink.objects.filter(tenant_id=event.account.tenant_id, stripe_customer=customer).first()


def _usable(account: StripeAccount) -> bool:
    return account.state == AccountState.READY
