"""A tenant's customers by name, page by page, and found by a part of their id or name."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from tenants.models import Customer

SEARCH_MAX = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomerFilter:
    """Whose customers: all, or those with a text in their id or name; `suspended` None: both kinds."""

    tenant_id: UUID
    search: str = ""
    suspended: bool | None = None


def customers(*, wanted: CustomerFilter, after: str, limit: int) -> list[Customer]:
    """Returns up to `limit` customers in the order of their ids, from behind the id `after` on."""
    return list(_found(wanted).filter(external_id__gt=after)[:limit])


def customer_of(*, tenant_id: UUID, external_id: str) -> Customer | None:
    """Returns one customer by the tenant's own id of it, or None."""
    return Customer.objects.filter(tenant_id=tenant_id, external_id=external_id).first()


def names_of(*, tenant_id: UUID, external_ids: list[str]) -> dict[str, str]:
    """Returns the names of some customers by their ids; those without one are left out."""
    rows = Customer.objects.filter(tenant_id=tenant_id, external_id__in=external_ids).exclude(name="")
    return dict(rows.values_list("external_id", "name"))


def named_like(tenant_id: UUID, text: str) -> Q:
    """A tenant's customers with a text in their id or name, found by the index of migration 0005."""
    pattern = f"%{connection.ops.prep_for_like_query(text)}%"
    return Q(pk__in=RawSQL("SELECT nb_customers_like(%s, %s)", [tenant_id, pattern]))


def _found(wanted: CustomerFilter) -> QuerySet[Customer]:
    rows = Customer.objects.filter(tenant_id=wanted.tenant_id).order_by("external_id")
    if wanted.search:
        rows = rows.filter(named_like(wanted.tenant_id, wanted.search))
    if wanted.suspended is not None:
        rows = rows.filter(suspended_at__isnull=not wanted.suspended)
    return rows
