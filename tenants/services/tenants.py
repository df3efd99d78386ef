"""Tenants: made here, and locked here by whoever changes what belongs to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.domain.time_zones import is_time_zone
from tenants.models import Member, Project, Role, Tenant, User
from tenants.models.tenancy import SLUG
from tenants.services import audit
from tenants.services.signals import tell_policy_changed

DEFAULT_PROJECT = "default"

_SLUG = re.compile(SLUG, re.ASCII)
_SLUG_RULE = "must be 1 to 63 characters of a-z, 0-9, - and _, with a letter or a digit at both ends"


class InvalidTenant(Invalid):
    """A tenant that breaks rules."""


class TenantNotFound(Missing):
    """There is no such tenant."""


@dataclass(frozen=True, kw_only=True)
class CreatedTenant:
    """A new tenant with what it needs to work."""

    tenant: Tenant
    user: User
    owner: Member
    project: Project


def slug_errors(field: str, slug: str) -> list[FieldError]:
    """Returns what is wrong with a slug, if anything."""
    return [] if _SLUG.fullmatch(slug) else [FieldError(field, _SLUG_RULE)]


def name_errors(field: str, name: str) -> list[FieldError]:
    """Returns what is wrong with a name for people: it has 1 to 200 characters, none of them a control."""
    if not 1 <= len(name) <= 200 or not name.strip() or any(ord(letter) < 32 for letter in name):
        return [FieldError(field, "must be 1 to 200 printable characters")]
    return []


def email_errors(field: str, email: str) -> list[FieldError]:
    """Returns what is wrong with an e-mail address."""
    if len(email) > 254:
        return [FieldError(field, "must be at most 254 characters")]
    try:
        validate_email(email)
    except ValidationError:
        return [FieldError(field, "must be an email address")]
    return []


def lock_tenant(*, tenant_id: UUID) -> Tenant:
    """Locks a tenant's row until the transaction ends, and returns it. Raises TenantNotFound.

    Every change of what a tenant has takes this lock first, so changes of one tenant come one after the other
    and in one order of locks. References to the tenant (ledger rows above all) are not held up by it.
    """
    tenant = Tenant.objects.select_for_update(no_key=True).filter(pk=tenant_id).first()
    if tenant is None:
        raise TenantNotFound(str(tenant_id))
    return tenant


def create_tenant(
    *, slug: str, name: str, email: str, time_zone: str = "UTC", actor: str, now: datetime
) -> CreatedTenant:
    """Creates a tenant with its owner and the project `default`; a known email becomes owner here as well.

    Raises InvalidTenant with every error.
    """
    email = email.strip().lower()
    errors = [*slug_errors("slug", slug), *name_errors("name", name), *email_errors("email", email)]
    if not is_time_zone(time_zone):
        errors.append(FieldError("time_zone", "must be an IANA time zone such as Europe/Berlin"))
    if not errors and Tenant.objects.filter(slug=slug).exists():
        errors.append(FieldError("slug", "is taken by another tenant"))
    if errors:
        raise InvalidTenant(errors)
    with transaction.atomic():
        tenant = Tenant.objects.create(
            id=ids.new_uuid(now), slug=slug, name=name, time_zone=time_zone, created_at=now
        )
        user = User.objects.filter(email=email).first()
        if user is None:
            user = User.objects.create_user(email, id=ids.new_uuid(now), created_at=now)
        owner = Member.objects.create(
            id=ids.new_uuid(now), tenant=tenant, user=user, role=Role.OWNER, created_at=now
        )
        project = Project.objects.create(
            id=ids.new_uuid(now), tenant=tenant, slug=DEFAULT_PROJECT, name="Default", created_at=now
        )
        audit.record(
            tenant_id=tenant.pk,
            actor=actor,
            action="tenant.create",
            object=ids.encode(ids.TENANT, tenant.pk),
            after={"slug": slug, "name": name, "time_zone": time_zone, "owner": email},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant.pk, now=now)
    return CreatedTenant(tenant=tenant, user=user, owner=owner, project=project)
