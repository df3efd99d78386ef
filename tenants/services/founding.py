"""A person founds a tenant of their own."""

from __future__ import annotations

import re
import secrets
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q

from noburn.kit.problems import FieldError
from noburn.kit.tenancy import across_tenants
from tenants.models import Member, Role, Tenant, User
from tenants.services.tenants import CreatedTenant, InvalidTenant, create_tenant

_OTHER = re.compile(r"[^a-z0-9]+")


_FIRST_LOCK: Final = "noburn.first-tenant"
_TAG = re.compile(r"\+[^@]*@")


@across_tenants()
def signup_open() -> bool:
    """Whether strangers may sign up and found a tenant: where it is open to all, or while there is no tenant yet."""
    if settings.NOBURN_SIGNUP == "first":
        return not Tenant.objects.exists()
    return bool(settings.NOBURN_SIGNUP == "open")


def may_found(*, user: User) -> bool:
    """Whether a person may found a tenant: everybody where strangers may sign up, else operators."""
    return user.is_staff or signup_open()


def found_tenant(*, user: User, name: str, slug: str, time_zone: str, now: datetime) -> CreatedTenant:
    """Creates a tenant with `user` as its owner; without a slug one is made of the name.

    Raises InvalidTenant with every error.
    """
    with transaction.atomic():
        if settings.NOBURN_SIGNUP == "first":
            # Of two strangers at once one founds the first tenant, and the other sees it.
            _lock(_FIRST_LOCK)
        if not may_found(user=user):
            raise InvalidTenant(
                [FieldError("name", "cannot be taken: this installation makes no new tenants")]
            )
        # One mailbox's requests one after the other, so that the count holds.
        mailbox, most = mailbox_of(user.email), settings.NOBURN_TENANTS_PER_PERSON
        _lock(f"noburn.founder:{mailbox}")
        if _owned(mailbox) >= most:
            raise InvalidTenant([FieldError("name", f"cannot be taken: you own {most} tenants already")])
        return create_tenant(
            slug=slug or free_slug(name),
            name=name,
            email=user.email,
            time_zone=time_zone,
            actor="system",
            now=now,
        )


def mailbox_of(email: str) -> str:
    """Returns the address without what people add to it by a plus: all of these arrive in one mailbox."""
    return _TAG.sub("@", email.strip().lower())


def _owned(mailbox: str) -> int:
    """Of how many tenants whoever reads a mailbox is an owner, under any spelling of its address."""
    local, _, domain = mailbox.rpartition("@")
    spelled = Q(user__email=mailbox) | Q(
        user__email__startswith=f"{local}+", user__email__endswith=f"@{domain}"
    )
    return Member.objects.filter(spelled, role=Role.OWNER).count()


def _lock(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def free_slug(name: str) -> str:
    """Makes a slug of a name that no tenant has: the name in small letters, with a few more where it is taken."""
    plain = _OTHER.sub("-", name.lower()).strip("-")[:50].strip("-") or "tenant"
    if not Tenant.objects.filter(slug=plain).exists():
        return plain
    return f"{plain}-{secrets.token_hex(3)}"
