"""What the tables of alerts have in common."""

from __future__ import annotations

from django.db import models

from tenants.models import fresh_id


class Owned(models.Model):
    """A row of one tenant, or (tenant null) of the installation, whose rows no tenant ever sees.

    UNIQUE (tenant_id, id) is referred to by both columns, as in TenantOwned; for the installation's rows, which
    such a reference does not check, there is the ordinary one beside it.
    """

    id = models.UUIDField(primary_key=True, default=fresh_id, editable=False)
    tenant = models.ForeignKey(
        "tenants.Tenant", null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="%(app_label)s_%(class)s_tenant_id"),
        ]
