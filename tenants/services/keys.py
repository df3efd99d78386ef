"""API keys: issued, rotated and revoked. A secret is returned once and never stored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.domain import api_keys
from tenants.models import ApiKey, KeyScope, Project
from tenants.services import audit
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant, name_errors

LIVE_KEYS_MAX = 1_000
"""The most live keys of a tenant: all of them are in its compiled policy."""

OVERLAP_MAX = timedelta(days=90)
"""The longest time for which a rotated key and its successor both work."""


class InvalidKey(Invalid):
    """An order for a key that breaks rules."""


class KeyNotFound(Missing):
    """The tenant has no such key."""


@dataclass(frozen=True, kw_only=True)
class IssuedKey:
    """A new key and its secret, which nobody can show again."""

    key: ApiKey
    secret: str = field(repr=False)


def issue_key(
    *,
    tenant_id: UUID,
    name: str,
    scopes: Sequence[str],
    project_id: UUID | None = None,
    expires_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> IssuedKey:
    """Issues a key of a project, or of the whole tenant. Raises TenantNotFound, or InvalidKey with every error."""
    errors = [*name_errors("name", name), *_scope_errors(scopes)]
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
        errors.append(FieldError("expires_at", "must be in the future, with its zone"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        if project_id is not None and not Project.objects.filter(tenant_id=tenant_id, pk=project_id).exists():
            errors.append(FieldError("project", "must be a project of the tenant"))
        errors += _room_errors(tenant_id, now)
        if errors:
            raise InvalidKey(errors)
        issued = _make(
            tenant_id=tenant_id,
            project_id=project_id,
            name=name,
            scopes=_sorted(scopes),
            expires_at=expires_at,
            now=now,
        )
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="api_key.issue",
            object=ids.encode(ids.API_KEY, issued.key.pk),
            after=_seen(issued.key),
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return issued


def rotate_key(*, tenant_id: UUID, key_id: UUID, overlap: timedelta, actor: str, now: datetime) -> IssuedKey:
    """Issues the successor of a key, which itself works for `overlap` (0 to 90 days) and then expires.

    Raises KeyNotFound, or InvalidKey when the key is no longer live or has a successor: at most two of a line
    of keys are live at a time.
    """
    errors = []
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        errors.append(FieldError("overlap", f"must be between 0 and {OVERLAP_MAX.days} days"))
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        old = _get(tenant_id, key_id)
        if not old.is_live(now):
            errors.append(FieldError("key", "has expired or was revoked; issue a new one"))
        elif old.replaced_by_id is not None:
            errors.append(FieldError("key", "was rotated before; rotate its successor"))
        errors += _room_errors(tenant_id, now)
        if errors:
            raise InvalidKey(errors)
        before = _seen(old)
        issued = _make(
            tenant_id=tenant_id,
            project_id=old.project_id,
            name=old.name,
            scopes=old.scopes,
            expires_at=old.expires_at,
            now=now,
        )
        ends_at = now + overlap
        old.expires_at = ends_at if old.expires_at is None else min(ends_at, old.expires_at)
        old.replaced_by = issued.key
        old.save(update_fields=["expires_at", "replaced_by"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="api_key.rotate",
            object=ids.encode(ids.API_KEY, old.pk),
            before=before,
            after={**_seen(old), "successor": _seen(issued.key)},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return issued


def revoke_key(*, tenant_id: UUID, key_id: UUID, actor: str, now: datetime) -> ApiKey:
    """Revokes a key at once; revoking it again changes nothing. Raises KeyNotFound.

    Settlements of holds that it placed may still come with it.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        key = _get(tenant_id, key_id)
        if key.revoked_at is not None:
            return key
        before = _seen(key)
        key.revoked_at = now
        key.save(update_fields=["revoked_at"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="api_key.revoke",
            object=ids.encode(ids.API_KEY, key.pk),
            before=before,
            after=_seen(key),
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return key


def _make(
    *,
    tenant_id: UUID,
    project_id: UUID | None,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
    now: datetime,
) -> IssuedKey:
    secret = api_keys.generate(random.SystemRandom())
    shown = api_keys.shown(secret)
    key = ApiKey.objects.create(
        id=ids.new_uuid(now),
        tenant_id=tenant_id,
        project_id=project_id,
        name=name,
        prefix=shown.prefix,
        last4=shown.last4,
        digest=api_keys.digest(settings.NOBURN_PEPPER, secret),
        pepper=api_keys.pepper_id(settings.NOBURN_PEPPER),
        scopes=list(scopes),
        expires_at=expires_at,
        created_at=now,
    )
    return IssuedKey(key=key, secret=secret)


def _get(tenant_id: UUID, key_id: UUID) -> ApiKey:
    key = ApiKey.objects.filter(tenant_id=tenant_id, pk=key_id).first()
    if key is None:
        raise KeyNotFound(str(key_id))
    return key


def _scope_errors(scopes: Sequence[str]) -> list[FieldError]:
    known = ", ".join(KeyScope.values)
    if not scopes:
        return [FieldError("scopes", f"must name at least one of {known}")]
    unknown = sorted(set(scopes) - set(KeyScope.values))
    if unknown:
        return [FieldError("scopes", f"knows no {', '.join(unknown)}; there are {known}")]
    return []


def _sorted(scopes: Sequence[str]) -> list[str]:
    return [scope for scope in KeyScope.values if scope in scopes]


def _room_errors(tenant_id: UUID, now: datetime) -> list[FieldError]:
    live = ApiKey.objects.filter(tenant_id=tenant_id, revoked_at__isnull=True).exclude(expires_at__lte=now)
    if live.count() < LIVE_KEYS_MAX:
        return []
    return [FieldError("name", f"a tenant has at most {LIVE_KEYS_MAX} live keys; revoke those not in use")]


def _seen(key: ApiKey) -> dict[str, Any]:
    """What the audit log shows of a key."""
    return {
        "name": key.name,
        "shown": f"{key.prefix}…{key.last4}",
        "scopes": list(key.scopes),
        "project_id": str(key.project_id) if key.project_id else None,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
    }
