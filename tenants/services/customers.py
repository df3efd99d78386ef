"""End customers of a tenant: registered, suspended, resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.models import Customer, EndUser
from tenants.services import audit
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant, name_errors

EXTERNAL_ID_LENGTH_MAX = 200
BATCH_MAX = 1_000
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
    errors = external_id_errors("external_id", external_id) + customer_name_errors(name)
    if errors:
        raise InvalidCustomer(errors)
    found = Customer.objects.filter(tenant_id=tenant_id, external_id=external_id).first()
    if found is not None:
        return found, False
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        # Counted only when a customer is new, and under the lock that every other maker here takes.
        subjects = _subjects(tenant_id)
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


@dataclass(frozen=True, kw_only=True)
class CustomerItem:
    """One customer of a batch: made, or changed to this; None leaves a field as it is."""

    external_id: str
    name: str | None = None
    suspended: bool | None = None

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = external_id_errors("external_id", self.external_id)
        return errors + (customer_name_errors(self.name) if self.name is not None else [])


def customer_name_errors(name: str) -> list[FieldError]:
    """Returns what is wrong with a customer's name, which may be empty."""
    return [] if name == "" else name_errors("name", name)


def save_customers(
    *, tenant_id: UUID, items: Sequence[CustomerItem], actor: str, now: datetime
) -> list[tuple[Customer, str]]:
    """Makes or changes up to 1,000 customers, all or none, each with its audit entry.

    Returns each customer with `created`, `updated` or `unchanged`, in the order of `items`; suspensions are in
    force with the next call. Raises TenantNotFound, or InvalidCustomer with every error under `items[n]`.
    """
    errors = [
        FieldError(f"items[{at}].{e.field}", e.message)
        for at, item in enumerate(items)
        for e in item.errors()
    ]
    seen: set[str] = set()
    for at, item in enumerate(items):
        if item.external_id in seen:
            errors.append(FieldError(f"items[{at}].external_id", "is in this batch twice"))
        seen.add(item.external_id)
    if not 1 <= len(items) <= BATCH_MAX:
        errors.append(FieldError("items", f"must be 1 to {BATCH_MAX} customers"))
    if errors:
        raise InvalidCustomer(errors)
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        found = {
            customer.external_id: customer
            for customer in Customer.objects.filter(tenant_id=tenant_id, external_id__in=seen)
        }
        room = tenant.subject_limit - _subjects(tenant_id)
        if len(seen) - len(found) > room:
            raise InvalidCustomer(
                [FieldError("items", f"at most {max(0, room)} more customers and users fit this tenant")]
            )
        saved = [_save(tenant_id, item, found.get(item.external_id), now) for item in items]
        saved = _insert(tenant_id, items, saved, now)
        Customer.objects.bulk_update(
            [s.customer for s in saved if s.outcome == "updated"], ["name", "suspended_at"]
        )
        _require_few_suspended(tenant_id, "items")
        audit.record_many(
            tenant_id=tenant_id,
            actor=actor,
            changes=[
                audit.Change(
                    action="customer.create" if s.outcome == "created" else "customer.edit",
                    object=ids.encode(ids.CUSTOMER, s.customer.pk),
                    before=s.before,
                    after=_seen(s.customer),
                )
                for s in saved
                if s.outcome != "unchanged"
            ],
            now=now,
        )
        if any(s.suspension_changed for s in saved):
            tell_policy_changed(tenant_id=tenant_id, now=now)
    return [(s.customer, s.outcome) for s in saved]


def _insert(
    tenant_id: UUID, items: Sequence[CustomerItem], saved: Sequence[_Saved], now: datetime
) -> list[_Saved]:
    """Writes the new customers. One that a gateway registered meanwhile, at a call of its own, is changed instead."""
    new = {s.customer.external_id: s.customer.pk for s in saved if s.outcome == "created"}
    Customer.objects.bulk_create([s.customer for s in saved if s.outcome == "created"], ignore_conflicts=True)
    there = {
        customer.external_id: customer
        for customer in Customer.objects.filter(tenant_id=tenant_id, external_id__in=new)
    }
    return [
        _save(tenant_id, item, there[item.external_id], now)
        if there.get(item.external_id, s.customer).pk != s.customer.pk
        else s
        for item, s in zip(items, saved, strict=True)
    ]


@dataclass(frozen=True)
class _Saved:
    customer: Customer
    outcome: str
    before: Mapping[str, Any] | None
    suspension_changed: bool


def _save(tenant_id: UUID, item: CustomerItem, found: Customer | None, now: datetime) -> _Saved:
    """Sets a customer's fields as an item says, without writing it."""
    customer = found or Customer(
        id=ids.new_uuid(now), tenant_id=tenant_id, external_id=item.external_id, name="", created_at=now
    )
    before = _seen(customer)
    if item.name is not None:
        customer.name = item.name
    if item.suspended is not None and item.suspended != (customer.suspended_at is not None):
        customer.suspended_at = now if item.suspended else None
    after = _seen(customer)
    changed = before["suspended_at"] != after["suspended_at"]
    if found is None:
        return _Saved(customer, "created", None, changed)
    return _Saved(customer, "unchanged" if before == after else "updated", before, changed)


def _seen(customer: Customer) -> dict[str, Any]:
    """What the audit log shows of a customer."""
    suspended_at = customer.suspended_at
    return {
        "external_id": customer.external_id,
        "name": customer.name,
        "suspended_at": suspended_at.isoformat() if suspended_at else None,
    }


def _subjects(tenant_id: UUID) -> int:
    return sum(model.objects.filter(tenant_id=tenant_id).count() for model in (Customer, EndUser))


def _require_few_suspended(tenant_id: UUID, field: str) -> None:
    """Checks the bound on suspended customers, after a change."""
    if Customer.objects.filter(tenant_id=tenant_id, suspended_at__isnull=False).count() > SUSPENDED_MAX:
        raise InvalidCustomer([FieldError(field, f"a tenant suspends at most {SUSPENDED_MAX} customers")])


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
        before = _seen(customer)
        customer.suspended_at = suspended_at
        customer.save(update_fields=["suspended_at"])
        _require_few_suspended(tenant_id, "external_id")
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="customer.suspend" if suspended_at else "customer.resume",
            object=ids.encode(ids.CUSTOMER, customer.pk),
            before=before,
            after=_seen(customer),
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return customer
