"""Tenants suspended and resumed by operators. A suspended tenant places no calls; what is in flight may settle."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from tenants.models import Tenant
from tenants.services import audit
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant


def suspend_tenant(*, tenant_id: UUID, actor: str, now: datetime) -> Tenant:
    """Refuses every further call of a tenant; repeating it changes nothing. Raises TenantNotFound."""
    return _set_suspended(tenant_id, suspended_at=now, actor=actor, now=now)


def resume_tenant(*, tenant_id: UUID, actor: str, now: datetime) -> Tenant:
    """Lets a suspended tenant call again; repeating it changes nothing. Raises TenantNotFound."""
    return _set_suspended(tenant_id, suspended_at=None, actor=actor, now=now)


def _set_suspended(tenant_id: UUID, *, suspended_at: datetime | None, actor: str, now: datetime) -> Tenant:
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        if (tenant.suspended_at is None) == (suspended_at is None):
            return tenant
        before = tenant.suspended_at
        tenant.suspended_at = suspended_at
        tenant.save(update_fields=["suspended_at"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="tenant.suspend" if suspended_at else "tenant.resume",
            object=ids.encode(ids.TENANT, tenant_id),
            before={"suspended_at": before.isoformat() if before else None},
            after={"suspended_at": suspended_at.isoformat() if suspended_at else None},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return tenant
