"""Writes the audit log, and links each entry to the one before (tenants/domain/audit_chain.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from noburn.kit import ids
from tenants.domain import audit_chain as chain
from tenants.models import AuditEntry, AuditLink, Tenant


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
    """Writes the entries of a batch with their links, in its transaction. Raises NotInTransaction.

    Takes the lock on the tenant's row, which whoever changes something of a tenant's holds already: the chain grows
    one transaction after the other.
    """
    if not transaction.get_connection().in_atomic_block:
        told = ", ".join(sorted({change.action for change in changes}))
        raise NotInTransaction(f"{told} must be recorded in the transaction that does it")
    Tenant.objects.select_for_update(no_key=True).filter(pk=tenant_id).values_list("pk").first()
    entries = AuditEntry.objects.bulk_create(
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
    link(tenant_id=tenant_id, entries=entries)


def link(*, tenant_id: UUID, entries: Sequence[AuditEntry]) -> None:
    """Links entries to the end of their tenant's chain; the caller holds the lock on the tenant's row."""
    head = AuditLink.objects.filter(tenant_id=tenant_id).order_by("-sequence").first()
    sequence, previous = (head.sequence, bytes(head.hash)) if head else (0, chain.ROOT)
    kid = settings.NOBURN_SIGNING_KID
    links = []
    for entry in entries:
        sequence += 1
        previous = chain.link_hash(previous=previous, sequence=sequence, content=content(entry))
        links.append(
            AuditLink(
                id=entry.pk,
                tenant_id=tenant_id,
                sequence=sequence,
                hash=previous,
                kid=kid,
                signature=chain.sign_link(settings.NOBURN_SIGNING_KEYS[kid], previous),
            )
        )
    AuditLink.objects.bulk_create(links)


def content(entry: AuditEntry) -> chain.Content:
    """Returns what is chained of an entry."""
    return chain.Content(
        tenant_id=entry.tenant_id,
        entry_id=entry.pk,
        actor=entry.actor,
        action=entry.action,
        object=entry.object,
        before=entry.before,
        after=entry.after,
        at=entry.at,
    )
