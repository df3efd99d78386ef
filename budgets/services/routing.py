"""A tenant's policies: created, edited, archived. Every edit publishes the compiled policy anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from budgets.domain.routing_rules import POLICIES_MAX, policy_errors
from budgets.models import RoutingPolicy
from budgets.services.policy import publish
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant


class InvalidPolicy(Invalid):
    """A policy that breaks rules; `errors` names every one."""


class PolicyNotFound(Missing):
    """The tenant has no such policy, or it is archived."""


@dataclass(frozen=True, kw_only=True)
class PolicyFields:
    """What a policy says, as on the wire: see docs/policies.md."""

    name: str
    rules: Sequence[Mapping[str, Any]]
    tiers: Mapping[str, Mapping[str, str]]
    position: int = 0
    enabled: bool = True
    time_zone: str | None = None

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        return policy_errors(name=self.name, rules=self.rules, tiers=self.tiers, time_zone=self.time_zone)


def create_policy(*, tenant_id: UUID, policy: PolicyFields, actor: str, now: datetime) -> RoutingPolicy:
    """Makes a policy, by which calls go from the next one on. Raises TenantNotFound, InvalidPolicy."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        errors = policy.errors()
        live = RoutingPolicy.objects.filter(tenant_id=tenant_id, archived_at__isnull=True)
        if live.count() >= POLICIES_MAX:
            errors.append(
                FieldError("policy", f"a tenant has at most {POLICIES_MAX}; archive those not in use")
            )
        if errors:
            raise InvalidPolicy(errors)
        row = RoutingPolicy(id=ids.new_uuid(now), tenant_id=tenant_id, created_at=now, **_columns(policy))
        row.save(force_insert=True)
        _record(row, "policy.create", actor=actor, now=now, before=None)
        publish(tenant_id=tenant_id, now=now)
    return row


def edit_policy(
    *, tenant_id: UUID, policy_id: UUID, changes: Mapping[str, Any], actor: str, now: datetime
) -> RoutingPolicy:
    """Changes fields of a policy; without a difference nothing happens. Raises PolicyNotFound, InvalidPolicy."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = find_policy(tenant_id, policy_id)
        before = seen(row)
        wanted = PolicyFields(**{**fields_of(row), **changes})
        if errors := wanted.errors():
            raise InvalidPolicy(errors)
        for name, value in _columns(wanted).items():
            setattr(row, name, value)
        if seen(row) != before:
            row.version += 1
            row.save()
            _record(row, "policy.edit", actor=actor, now=now, before=before)
            publish(tenant_id=tenant_id, now=now)
    return row


def archive_policy(*, tenant_id: UUID, policy_id: UUID, actor: str, now: datetime) -> RoutingPolicy:
    """Ends a policy: it decides about no further call. Raises TenantNotFound, PolicyNotFound."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = find_policy(tenant_id, policy_id)
        before = seen(row)
        row.archived_at = now
        row.version += 1
        row.save()
        _record(row, "policy.archive", actor=actor, now=now, before=before)
        publish(tenant_id=tenant_id, now=now)
    return row


def find_policy(tenant_id: UUID, policy_id: UUID) -> RoutingPolicy:
    """Returns a live policy of the tenant. Raises PolicyNotFound."""
    row = RoutingPolicy.objects.filter(tenant_id=tenant_id, pk=policy_id, archived_at__isnull=True).first()
    if row is None:
        raise PolicyNotFound(str(policy_id))
    return row


def fields_of(row: RoutingPolicy) -> dict[str, Any]:
    """What can be said of a policy, of one that is there."""
    return {
        "name": row.name,
        "rules": row.rules,
        "tiers": row.tiers,
        "position": row.position,
        "enabled": row.enabled,
        "time_zone": row.time_zone,
    }


def seen(row: RoutingPolicy) -> dict[str, Any]:
    """What the audit log shows of a policy."""
    return {
        **fields_of(row),
        "version": row.version,
        "archived_at": row.archived_at.isoformat() if row.archived_at else None,
    }


def _columns(policy: PolicyFields) -> dict[str, Any]:
    return {
        "name": policy.name,
        "rules": [dict(rule) for rule in policy.rules],
        "tiers": {provider: dict(named) for provider, named in policy.tiers.items()},
        "position": policy.position,
        "enabled": policy.enabled,
        "time_zone": policy.time_zone,
    }


def _record(
    row: RoutingPolicy, action: str, *, actor: str, now: datetime, before: Mapping[str, Any] | None
) -> None:
    audit.record(
        tenant_id=row.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.POLICY, row.pk),
        before=before,
        after=seen(row),
        now=now,
    )
