"""End customers of a tenant: registered, suspended, resumed."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.models import Customer, EndUser
from tenants.services import audit
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant

EXTERNAL_ID_LENGTH_MAX = 200
SUSPENDED_MAX = 10_000
"""The most suspended customers of a tenant: all of them are in its compiled policy."""


class InvalidCustomer(Invalid):
    """A customer that breaks rules, or one too many."""


class CustomerNotFound(Missing):
    """The tenant has no such customer."""


def external_id_errors(field: str, external_id: str) -> list[FieldError]:
    """Returns what is wrong with a tenant's own id of a customer or user."""
    if not 1 <= len(external_id) <= EXTERNAL_ID_LENGTH_MAX:
        return [FieldError(field, f"must be 1 to {EXTERNAL_ID_LENGTH_MAX} characters")]
    if not external_id.isprintable() or external_id != external_id.strip():
        return [FieldError(field, "must be printable, without blanks at its ends")]
    if external_id == "*":
        return [FieldError(field, "must not be *, which stands for each customer in a budget")]
    return []


def ensure_customer(
    *, tenant_id: UUID, external_id: str, name: str = "", actor: str, now: datetime
) -> tuple[Customer, bool]:
    """Returns the customer, and whether it was made just now; an existing one stays as it is.

    Raises TenantNotFound, or InvalidCustomer, also when the tenant's limit of customers and users is reached.
    """
    errors = external_id_errors("external_id", external_id)
    if len(name) > 200:
        errors.append(FieldError("name", "must be at most 200 characters"))
    if errors:
        raise InvalidCustomer(errors)
    found = Customer.objects.filter(tenant_id=tenant_id, external_id=external_id).first()
    if found is not None:
        return found, False
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        # Counted only when a customer is new, and under the lock that every other maker here takes.
        subjects = sum(model.objects.filter(tenant_id=tenant_id).count() for model in (Customer, EndUser))
        customer, made = Customer.objects.get_or_create(
            tenant_id=tenant_id,
            external_id=external_id,
            defaults={"id": ids.new_uuid(now), "name": name, "created_at": now},
        )
        if not made:
            return customer, False
        if subjects >= tenant.subject_limit:
            raise InvalidCustomer(
                [FieldError("external_id", f"the tenant's {tenant.subject_limit} customers and users exist")]
            )
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="customer.create",
            object=ids.encode(ids.CUSTOMER, customer.pk),
            after={"external_id": external_id, "name": name},
            now=now,
        )
    return customer, True


def suspend_customer(*, tenant_id: UUID, external_id: str, actor: str, now: datetime) -> Customer:
    """Refuses every further call of a customer; repeating it changes nothing.

    Holds in flight may settle. Raises CustomerNotFound, or InvalidCustomer when too many are suspended.
    """
    return _set_suspended(tenant_id, external_id, suspended_at=now, actor=actor, now=now)


def resume_customer(*, tenant_id: UUID, external_id: str, actor: str, now: datetime) -> Customer:
    """Lets a suspended customer call again; repeating it changes nothing. Raises CustomerNotFound."""
    return _set_suspended(tenant_id, external_id, suspended_at=None, actor=actor, now=now)


def _set_suspended(
    tenant_id: UUID, external_id: str, *, suspended_at: datetime | None, actor: str, now: datetime
) -> Customer:
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        customer = Customer.objects.filter(tenant_id=tenant_id, external_id=external_id).first()
        if customer is None:
            raise CustomerNotFound(external_id)
        if (customer.suspended_at is None) == (suspended_at is None):
            return customer
        others = Customer.objects.filter(tenant_id=tenant_id, suspended_at__isnull=False).count()
        if suspended_at is not None and others >= SUSPENDED_MAX:
            raise InvalidCustomer(
                [FieldError("external_id", f"a tenant suspends at most {SUSPENDED_MAX} customers")]
            )
        before = customer.suspended_at
        customer.suspended_at = suspended_at
        customer.save(update_fields=["suspended_at"])
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="customer.suspend" if suspended_at else "customer.resume",
            object=ids.encode(ids.CUSTOMER, customer.pk),
            before={"suspended_at": before.isoformat() if before else None},
            after={"suspended_at": suspended_at.isoformat() if suspended_at else None},
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return customer
