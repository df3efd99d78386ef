"""Keeps what customers paid their tenant, as its own systems report it, each payment once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billing.models import ReportedPayment


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """A payment as it was told. Below zero it is a refund."""

    project: str
    customer: str
    amount_nano: int
    occurred_at: datetime
    external_id: str
    source: str

    @property
    def dedupe_key(self) -> str:
        """By what it is known again: the id that its teller gave it, else all that it says."""
        told: tuple[object, ...] = ("id", self.project, self.external_id)
        if not self.external_id:
            told = (
                "told",
                self.project,
                self.customer,
                self.amount_nano,
                self.occurred_at.timestamp(),
                self.source,
            )
        return hashlib.blake2b(repr(told).encode(), digest_size=32).hexdigest()


def report_payment(*, tenant_id: UUID, payment: Reported, now: datetime) -> bool:
    """Keeps a payment; False if it is known already, whatever it says this time."""
    made = ReportedPayment(
        tenant_id=tenant_id,
        project=payment.project,
        customer=payment.customer,
        amount_nano=payment.amount_nano,
        occurred_at=payment.occurred_at,
        external_id=payment.external_id,
        source=payment.source,
        dedupe_key=payment.dedupe_key,
        created_at=now,
    )
    # The database decides, so that two deliveries at once keep one.
    ReportedPayment.objects.bulk_create([made], ignore_conflicts=True)
    kept = ReportedPayment.objects.filter(tenant_id=tenant_id, dedupe_key=payment.dedupe_key)
    return kept.filter(pk=made.pk).exists()
