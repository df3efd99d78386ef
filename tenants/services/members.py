"""Members of a tenant: added, given another role, removed. A tenant is never without an owner."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.models import Member, Role, User
from tenants.services import audit
from tenants.services.tenants import email_errors, lock_tenant

MEMBERS_MAX = 1_000
"""The most members of a tenant."""


class InvalidMember(Invalid):
    """A member, or a change of one, that breaks rules."""


class MemberNotFound(Missing):
    """The tenant has no such member."""


def add_member(
    *, tenant_id: UUID, email: str, role: str, by_owner: bool, actor: str, now: datetime
) -> Member:
    """Makes a person, known or new, a member. Raises TenantNotFound, or InvalidMember with every error.

    Only an owner (`by_owner`) makes another. A new person has no password: they get in by an invitation.
    """
    email = email.strip().lower()
    errors = [*email_errors("email", email), *_role_errors(role, by_owner=by_owner)]
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        members = Member.objects.filter(tenant_id=tenant_id)
        if members.filter(user__email=email).exists():
            errors.append(FieldError("email", "is a member already"))
        if members.count() >= MEMBERS_MAX:
            errors.append(FieldError("email", f"a tenant has at most {MEMBERS_MAX} members"))
        if errors:
            raise InvalidMember(errors)
        user = User.objects.filter(email=email).first()
        if user is None:
            user = User.objects.create_user(email, id=ids.new_uuid(now), created_at=now)
        member = Member.objects.create(
            id=ids.new_uuid(now), tenant_id=tenant_id, user=user, role=role, created_at=now
        )
        _record(member, "member.add", actor=actor, now=now, after={"email": email, "role": role})
    return member


def change_role(
    *, tenant_id: UUID, member_id: UUID, role: str, by_owner: bool, actor: str, now: datetime
) -> Member:
    """Gives a member another role. Raises TenantNotFound, MemberNotFound, InvalidMember."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        member = _get(tenant_id, member_id)
        if errors := _role_errors(role, by_owner=by_owner):
            raise InvalidMember(errors)
        if member.role == role:
            return member
        _require_not_the_last_owner(member, by_owner=by_owner)
        before, member.role = member.role, role
        member.save(update_fields=["role"])
        _record(
            member, "member.change_role", actor=actor, now=now, before={"role": before}, after={"role": role}
        )
    return member


def remove_member(*, tenant_id: UUID, member_id: UUID, by_owner: bool, actor: str, now: datetime) -> None:
    """Ends a membership; the person stays. Raises TenantNotFound, MemberNotFound, InvalidMember."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        member = _get(tenant_id, member_id)
        _require_not_the_last_owner(member, by_owner=by_owner)
        before = {"email": member.user.email, "role": member.role}
        _record(member, "member.remove", actor=actor, now=now, before=before)
        member.delete()


def _get(tenant_id: UUID, member_id: UUID) -> Member:
    member = Member.objects.select_related("user").filter(tenant_id=tenant_id, pk=member_id).first()
    if member is None:
        raise MemberNotFound(str(member_id))
    return member


def _role_errors(role: str, *, by_owner: bool) -> list[FieldError]:
    if role not in Role.values:
        return [FieldError("role", f"must be one of {', '.join(Role.values)}")]
    if role == Role.OWNER and not by_owner:
        return [FieldError("role", "only an owner makes another owner")]
    return []


def _require_not_the_last_owner(member: Member, *, by_owner: bool) -> None:
    """Checks a change that would leave an owner without that role."""
    if member.role != Role.OWNER:
        return
    if not by_owner:
        raise InvalidMember([FieldError("role", "only an owner changes an owner")])
    others = Member.objects.filter(tenant_id=member.tenant_id, role=Role.OWNER).exclude(pk=member.pk)
    if not others.exists():
        raise InvalidMember([FieldError("role", "this is the last owner; make another one first")])


def _record(
    member: Member,
    action: str,
    *,
    actor: str,
    now: datetime,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    audit.record(
        tenant_id=member.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.MEMBER, member.pk),
        before=before,
        after=after,
        now=now,
    )
