"""Which hours of usage billing still needs: those of periods that are not charged for good."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Min

from billing.models import AccountState, BillingPeriod, StripeAccount
from billing.services.charges import DAYS_MAX


def needed_hours(*, now: datetime, **_: Any) -> datetime | None:
    """Returns the first hour of the earliest open period that can still be charged; a receiver of `hours_needed`."""
    connected = StripeAccount.objects.exclude(state=AccountState.DISCONNECTED).values("tenant_id")
    open_ = BillingPeriod.objects.filter(
        tenant_id__in=connected, closed_at=None, starts_at__gte=now - timedelta(days=DAYS_MAX)
    )
    found: datetime | None = open_.aggregate(first=Min("starts_at"))["first"]
    return found
