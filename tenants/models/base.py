"""What every table of a tenant has in common."""

from __future__ import annotations

from uuid import UUID

from django.db import models
from django.utils import timezone

from noburn.kit import ids


def fresh_id() -> UUID:
    """Makes a time-ordered primary key for a row created without one."""
    return ids.new_uuid(timezone.now())


class TenantOwned(models.Model):
    """A row of one tenant.

    UNIQUE (tenant_id, id) lets other tables refer to it by both columns, so that the database refuses a reference
    across tenants, which row-level security would not. Such keys are declared in the migrations; the Django
    field that carries one says db_constraint=False.
    """

    id = models.UUIDField(primary_key=True, default=fresh_id, editable=False)
    # No index of its own: the unique constraint below starts with the same column.
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="%(app_label)s_%(class)s_tenant_id"),
        ]
