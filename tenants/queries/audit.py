"""What was done to one thing of a tenant's, from the audit log."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tenants.models import AuditEntry

Place = tuple[datetime, UUID]
"""Where a page ends: when it was done, and the entry."""


def history(
    *, tenant_id: UUID, object: str, since: datetime, before: Place | None, limit: int
) -> list[AuditEntry]:
    """Returns what was done to one object since `since`, the newest first, from the one before `before` on.

    The log is in the order of time alone, so `since` (when the object was made) bounds how far it is looked through.
    """
    rows = AuditEntry.objects.filter(tenant_id=tenant_id, object=object, at__gte=since)
    if before is not None:
        at, entry = before
        rows = rows.filter(at__lte=at).exclude(at=at, pk__gte=entry)
    return list(rows.order_by("-at", "-pk")[:limit])
