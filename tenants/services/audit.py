"""Writes the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from tenants.models import AuditEntry


class NotInTransaction(RuntimeError):
    """An audit entry was about to be written outside the transaction of its change."""


def record(
    *,
    tenant_id: UUID,
    actor: str,
    action: str,
    object: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """Writes one entry in the caller's transaction; raises NotInTransaction when there is none.

    `actor` is `user:mem_…`, `key:key_…`, `command:<name>` or `system`; `action` is `topic.verb`; `object` is a
    wire id. `before` and `after` hold the changed fields as JSON, and never a secret.
    """
    if not transaction.get_connection().in_atomic_block:
        raise NotInTransaction(f"{action} must be recorded in the transaction that does it")
    AuditEntry.objects.create(
        id=ids.new_uuid(now),
        tenant_id=tenant_id,
        actor=actor,
        action=action,
        object=object,
        before=dict(before) if before is not None else None,
        after=dict(after) if after is not None else None,
        at=now,
    )
