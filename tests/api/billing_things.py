"""One thing of each kind that billing makes by itself, which no caller of the API could make."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from alerts.services.secrets import sealer
from billing.domain.pushing import hour_of
from billing.models import (
    AccountState,
    BillingPeriod,
    CreditNote,
    LinkState,
    Measurement,
    MeasurementKind,
    Reconciliation,
    StripeAccount,
    StripeInvoice,
    StripeLink,
)
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.models import Customer


def make_billing(tenant_id: UUID, word: str) -> dict[str, str]:
    """An account that set-up gave up, so that nothing works on it; a link, a measurement, an invoice; ids by prefix."""
    now = utc_now()
    hour = hour_of(now)
    StripeAccount.objects.create(
        tenant_id=tenant_id,
        mode="key",
        secret_key=sealer().seal(f"rk_test_{word}"),
        key_last4="0000",
        state=AccountState.FAILED,
        problem=word,
        billed_from=hour,
        next_attempt_at=now,
        bucket_at=now,
        created_at=now,
        updated_at=now,
    )
    customer = Customer.objects.create(tenant_id=tenant_id, external_id=f"{word}-billed", created_at=now)
    link = StripeLink.objects.create(
        tenant_id=tenant_id,
        customer=customer,
        state=LinkState.FAILED,
        stripe_customer=f"cus_{word}",
        next_attempt_at=now,
        created_at=now,
        updated_at=now,
    )
    period = BillingPeriod.objects.create(
        tenant_id=tenant_id, customer=customer, starts_at=hour - timedelta(days=1), ends_at=hour
    )
    measurement = Measurement.objects.create(
        tenant_id=tenant_id,
        customer=customer,
        period=period,
        kind=MeasurementKind.USAGE,
        window_starts_at=hour - timedelta(hours=1),
        seq=0,
        key=f"nb:test:{word}:{customer.pk}",
        meter_event="noburn_usage_micro_usd",
        stripe_customer=link.stripe_customer,
        value_micro=5,
        at=hour - timedelta(minutes=1),
        owed_nano=5_000,
        created_at=now,
        next_attempt_at=now,
    )
    invoice = StripeInvoice.objects.create(
        tenant_id=tenant_id,
        customer=customer,
        stripe_id=f"in_{word}",
        number=word,
        status="open",
        currency="usd",
        total=500,
        amount_due=500,
        amount_paid=0,
        hosted_url=f"https://invoice.stripe.com/{word}",
        created_at=now,
        seen_at=now,
    )
    CreditNote.objects.create(
        tenant_id=tenant_id,
        invoice=invoice,
        amount=1,
        reason="duplicate",
        memo=word,
        next_attempt_at=now,
        created_by=word,
        created_at=now,
    )
    Reconciliation.objects.create(
        tenant_id=tenant_id,
        customer=customer,
        period=period,
        owed_nano=5_000,
        told_micro=5,
        delivered_micro=0,
        differences=[{"kind": "pending", "micro": 5}],
        unexplained_micro=0,
        agrees=True,
        checked_at=now,
    )
    return {
        ids.STRIPE_LINK: ids.encode(ids.STRIPE_LINK, link.pk),
        ids.MEASUREMENT: ids.encode(ids.MEASUREMENT, measurement.pk),
        ids.INVOICE: ids.encode(ids.INVOICE, invoice.pk),
    }
