"""Writes the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from tenants.models import AuditEntry


class NotInTransaction(RuntimeError):
    """An audit entry was about to be written outside the transaction of its change."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to one object: `action` is `topic.verb`, `object` a wire id.

    `before` and `after` hold the changed fields as JSON, and never a secret.
    """

    action: str
    object: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


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

    `actor` is `user:mem_…`, `key:key_…`, `operator:<id>`, `command:<name>` or `system`; the rest is as in Change.
    """
    change = Change(action=action, object=object, before=before, after=after)
    record_many(tenant_id=tenant_id, actor=actor, changes=[change], now=now)


def record_many(*, tenant_id: UUID, actor: str, changes: Sequence[Change], now: datetime) -> None:
    """Writes the entries of a batch, in its transaction. Raises NotInTransaction."""
    if not transaction.get_connection().in_atomic_block:
        told = ", ".join(sorted({change.action for change in changes}))
        raise NotInTransaction(f"{told} must be recorded in the transaction that does it")
    AuditEntry.objects.bulk_create(
        AuditEntry(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            actor=actor,
            action=change.action,
            object=change.object,
            before=dict(change.before) if change.before is not None else None,
            after=dict(change.after) if change.after is not None else None,
            at=now,
        )
        for change in changes
    )
