"""What was done to one thing of a tenant's, from the audit log, and where its chain ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tenants.models import AuditCheckpoint, AuditEntry, AuditLink

Place = tuple[datetime, UUID]
"""Where a page ends: when it was done, and the entry."""


@dataclass(frozen=True, kw_only=True)
class ChainEnd:
    """Where a tenant's chain ends, and up to where it was signed; empty and 0 where there is none."""

    entries: int
    hash: str
    signed: int
    signed_at: datetime | None


def chain_end(*, tenant_id: UUID) -> ChainEnd:
    """Returns where a tenant's chain of audit entries ends."""
    head = AuditLink.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
    last = AuditCheckpoint.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
    return ChainEnd(
        entries=head.sequence if head else 0,
        hash=bytes(head.hash).hex() if head else "",
        signed=last.sequence if last else 0,
        signed_at=last.made_at if last else None,
    )


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
