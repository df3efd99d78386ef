"""Tenants suspended and resumed by operators, or refused for a while by their own plan. What is in flight may settle."""

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


def refuse_calls(*, tenant_id: UUID, until: datetime | None, actor: str, now: datetime) -> bool:
    """Refuses further calls of a tenant as `plan_limit` until a time, or no longer (None); returns whether that is new.

    Raises TenantNotFound.
    """
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        before = tenant.calls_refused_until
        if before == until:
            return False
        tenant.calls_refused_until = until
        tenant.save(update_fields=["calls_refused_until"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="tenant.refuse_calls" if until else "tenant.allow_calls",
            object=ids.encode(ids.TENANT, tenant_id),
            before={"calls_refused_until": before.isoformat() if before else None},
            after={"calls_refused_until": until.isoformat() if until else None},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return True
