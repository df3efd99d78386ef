"""Guards: created, edited, archived. Every edit publishes the policy anew, so it holds for the next call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from budgets.domain.budget_rules import choice_errors, name_errors, subject_errors
from budgets.domain.guards import GUARDS_MAX, SCOPES, limit_errors
from budgets.domain.policy import EACH, GuardKind, Scope
from budgets.models import Guard
from budgets.models.guards import GuardMode
from budgets.services.policy import publish
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant


class InvalidGuard(Invalid):
    """A guard or an edit that breaks rules; `errors` names every one."""


class GuardNotFound(Missing):
    """The tenant has no such guard, or it is archived."""


@dataclass(frozen=True, kw_only=True)
class NewGuard:
    """A guard to be made. Kind, mode and scope are words as on the wire; amounts in `limits` are nano-USD."""

    kind: str
    scope: str
    limits: Mapping[str, int]
    subject: str = EACH
    mode: str = GuardMode.OBSERVE.value
    name: str = ""

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = [
            *choice_errors("kind", self.kind, GuardKind),
            *choice_errors("mode", self.mode, GuardMode.values),
            *choice_errors("scope", self.scope, SCOPES),
        ]
        if self.name:
            errors += name_errors(self.name)
        if errors:
            return errors
        errors = subject_errors(self.scope, self.subject, None)
        if self.kind == GuardKind.NEWCOMER and self.scope != Scope.CUSTOMER:
            errors.append(
                FieldError("scope", "must be customer: customers are what is seen for the first time")
            )
        return errors + limit_errors(GuardKind(self.kind), self.limits)


def create_guard(*, tenant_id: UUID, guard: NewGuard, actor: str, now: datetime) -> Guard:
    """Creates a guard and publishes it. Raises TenantNotFound, or InvalidGuard with every error."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        errors = guard.errors()
        live = Guard.objects.filter(tenant_id=tenant_id, archived_at__isnull=True).count()
        if not errors and live >= GUARDS_MAX:
            errors = [FieldError("kind", f"there are {GUARDS_MAX} guards already; archive one first")]
        if errors:
            raise InvalidGuard(errors)
        made = Guard(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            name=guard.name or f"{guard.kind} of {guard.scope} {guard.subject}"[:200],
            kind=guard.kind,
            mode=guard.mode,
            scope=guard.scope,
            subject=guard.subject,
            limits=dict(guard.limits),
            created_at=now,
        )
        made.save(force_insert=True)
        _record(made, "guard.create", actor=actor, now=now, before=None, after=_seen(made))
        publish(tenant_id=tenant_id, now=now)
    return made


def edit_guard(
    *,
    tenant_id: UUID,
    guard_id: UUID,
    name: str | None = None,
    mode: str | None = None,
    limits: Mapping[str, int] | None = None,
    actor: str,
    now: datetime,
) -> Guard:
    """Changes a guard and publishes it; None leaves a field. Raises TenantNotFound, GuardNotFound, InvalidGuard.

    With new limits what a guard remembers stays: it is told of times and amounts alone.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        guard = _find(tenant_id, guard_id)
        before = _seen(guard)
        wanted = NewGuard(
            kind=guard.kind,
            scope=guard.scope,
            subject=guard.subject,
            limits=guard.limits if limits is None else limits,
            mode=guard.mode if mode is None else mode,
            name=guard.name if name is None else name,
        )
        errors = wanted.errors()
        if name is not None:
            errors += [error for error in name_errors(name) if error not in errors]
        if errors:
            raise InvalidGuard(errors)
        guard.name, guard.mode, guard.limits = wanted.name, wanted.mode, dict(wanted.limits)
        after = _seen(guard)
        if after != before:
            guard.save(update_fields=["name", "mode", "limits"])
            _record(guard, "guard.edit", actor=actor, now=now, before=before, after=after)
            publish(tenant_id=tenant_id, now=now)
    return guard


def archive_guard(*, tenant_id: UUID, guard_id: UUID, actor: str, now: datetime) -> Guard:
    """Ends a guard: it stops nothing from the next call on. Raises TenantNotFound, GuardNotFound."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        guard = _find(tenant_id, guard_id)
        before = _seen(guard)
        guard.archived_at = now
        guard.save(update_fields=["archived_at"])
        _record(guard, "guard.archive", actor=actor, now=now, before=before, after=_seen(guard))
        publish(tenant_id=tenant_id, now=now)
    return guard


def _find(tenant_id: UUID, guard_id: UUID) -> Guard:
    guard = Guard.objects.filter(tenant_id=tenant_id, pk=guard_id, archived_at__isnull=True).first()
    if guard is None:
        raise GuardNotFound(str(guard_id))
    return guard


def _seen(guard: Guard) -> dict[str, Any]:
    return {
        "name": guard.name,
        "kind": guard.kind,
        "mode": guard.mode,
        "scope": guard.scope,
        "subject": guard.subject,
        "limits": dict(guard.limits),
        "archived_at": guard.archived_at.isoformat() if guard.archived_at else None,
    }


def _record(
    guard: Guard,
    action: str,
    *,
    actor: str,
    now: datetime,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> None:
    audit.record(
        tenant_id=guard.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.GUARD, guard.pk),
        before=before,
        after=after,
        now=now,
    )
