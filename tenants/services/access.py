"""Tells who asks: the tenant and the rights behind an API key or a member's session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from noburn.kit import ids
from noburn.kit.problems import Problem, ProblemError, problem
from noburn.kit.tenancy import across_tenants
from tenants.domain import api_keys
from tenants.domain.roles import OF_ONE_PROJECT, READABLE, WRITABLE, Topic
from tenants.models import ApiKey, KeyScope, Member, Role, Tenant, User
from tenants.services.second_factor import has_second_factor

LAST_USED_EVERY = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Access:
    """Somebody at a tenant: a member (`role`, `user`), or a key (`scopes`, and its `project`'s slug if it has one)."""

    tenant: Tenant
    actor: str
    role: Role | None = None
    user: User | None = None
    scopes: frozenset[str] = frozenset()
    project: str | None = None

    @property
    def tenant_id(self) -> UUID:
        """The tenant's id."""
        return self.tenant.pk

    @property
    def is_owner(self) -> bool:
        """Whether an owner asks; no key is one."""
        return self.role == Role.OWNER

    @property
    def owner(self) -> User | None:
        """Who asks, where that is an owner."""
        return self.user if self.is_owner else None

    def require_read(self, topic: Topic) -> None:
        """Raises a problem unless this topic may be read."""
        if self.role is not None:
            if topic not in READABLE[self.role]:
                raise ProblemError(problem("forbidden-role", f"The role {self.role} may not read this."))
            return
        if not self.scopes & {KeyScope.READ, KeyScope.MANAGE}:
            raise ProblemError(problem("forbidden-scope", "This API key lacks the scope 'read'."))
        if self.project is not None and topic not in OF_ONE_PROJECT:
            raise ProblemError(_of_one_project(self.project))

    def require_write(self, topic: Topic) -> None:
        """Raises a problem unless this topic may be changed."""
        if self.role is not None:
            if topic not in WRITABLE[self.role]:
                raise ProblemError(problem("forbidden-role", f"The role {self.role} may not change this."))
        elif KeyScope.MANAGE not in self.scopes:
            raise ProblemError(problem("forbidden-scope", "This API key lacks the scope 'manage'."))
        elif self.project is not None:
            raise ProblemError(_of_one_project(self.project))
        if self.tenant.suspended_at is not None:
            raise ProblemError(
                problem("tenant-suspended", "This tenant is suspended; nothing can be changed.")
            )


def _of_one_project(project: str) -> Problem:
    return problem(
        "forbidden-scope",
        f"This API key belongs to project {project!r} and sees only its use; take a key of the whole tenant.",
    )


class UnknownKey(ProblemError):
    """A key that is spelled like one, and that no tenant knows."""


def digests_of(text: str) -> tuple[bytes, ...]:
    """Returns the digests by which a key may be stored here. Raises BadKey."""
    peppers = (settings.NOBURN_PEPPER, settings.NOBURN_PEPPER_PREVIOUS)
    return api_keys.digests(tuple(filter(None, peppers)), text)


@across_tenants()
def key_access(*, text: str, now: datetime) -> Access:
    """Returns what an API key may do. Raises an unauthorized problem for one that is no live key."""
    try:
        digests = digests_of(text)
    except api_keys.BadKey as bad:
        raise ProblemError(problem("unauthorized", f"This is not an API key: {bad}.")) from None
    key = ApiKey.objects.select_related("tenant", "project").filter(digest__in=digests).first()
    if key is None:
        raise UnknownKey(problem("unauthorized", "No tenant knows this API key."))
    if key.revoked_at is not None:
        raise ProblemError(
            problem("unauthorized", f"This API key was revoked at {key.revoked_at.isoformat()}.")
        )
    if key.expires_at is not None and key.expires_at <= now:
        raise ProblemError(problem("unauthorized", f"This API key expired at {key.expires_at.isoformat()}."))
    if key.last_used_at is None or key.last_used_at < now - LAST_USED_EVERY:
        ApiKey.objects.filter(tenant_id=key.tenant_id, pk=key.pk).update(last_used_at=now)
    return Access(
        tenant=key.tenant,
        actor=f"key:{ids.encode(ids.API_KEY, key.pk)}",
        scopes=frozenset(key.scopes),
        project=key.project.slug if key.project else None,
    )


@across_tenants()
def member_access(*, user: User, tenant: str) -> Access:
    """Returns what a signed-in person may do at a tenant, named by id or slug; "" is their only one.

    Raises a problem when the person is no member there, or is of several and names none.
    """
    places = Member.objects.select_related("tenant").filter(user=user).order_by("created_at", "pk")
    if tenant.startswith("ten_"):
        wanted = _tenant_id(tenant)
        places = places.filter(tenant_id=wanted) if wanted else places.none()
    elif tenant:
        places = places.filter(tenant__slug=tenant)
    found = list(places[:2])
    if len(found) > 1:
        raise ProblemError(
            problem(
                "unauthorized", "You are a member of several tenants: name one in the header Noburn-Tenant."
            )
        )
    if not found:
        raise ProblemError(problem("unauthorized", "You are a member of no such tenant."))
    member = found[0]
    if member.tenant.second_factor_required and not has_second_factor(user):
        raise ProblemError(
            problem(
                "second-factor-required",
                "This tenant asks its members for a second factor: set one up at /account/2fa/.",
            )
        )
    return Access(
        tenant=member.tenant,
        actor=f"user:{ids.encode(ids.MEMBER, member.pk)}",
        role=Role(member.role),
        user=user,
    )


def _tenant_id(text: str) -> UUID | None:
    try:
        return ids.decode(ids.TENANT, text)
    except ids.BadId:
        return None
