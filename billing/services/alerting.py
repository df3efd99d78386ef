"""What billing tells tenants of: usage that Stripe does not get, and customers that do not pay."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from alerts.services.alerts import raise_alert


def push_failed(
    *,
    tenant_id: UUID,
    about: str,
    reason: str,
    now: datetime,
    details: Mapping[str, str] | None = None,
) -> None:
    """Tells that usage could not be pushed: once a day for what it is about and why. In the caller's transaction."""
    raise_alert(
        tenant_id=tenant_id,
        kind="push_failed",
        dedupe_key=f"push_failed:{about}:{reason[:60]}:{now:%Y-%m-%d}",
        subject=about,
        details={"reason": reason[:300], **(details or {})},
        now=now,
    )


def customer_delinquent(
    *, tenant_id: UUID, customer: str, invoice: str, suspended: bool, now: datetime
) -> None:
    """Tells that a customer's payment failed, once for an invoice. In the caller's transaction."""
    raise_alert(
        tenant_id=tenant_id,
        kind="customer_delinquent",
        dedupe_key=f"customer_delinquent:{customer[:80]}:{invoice}",
        subject=customer,
        details={"customer": customer, "invoice": invoice, "suspended": "yes" if suspended else "no"},
        now=now,
    )
