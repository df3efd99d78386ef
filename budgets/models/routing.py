"""A tenant's policies: rules in order that say which model a call uses."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from tenants.models import TenantOwned


class RoutingPolicy(TenantOwned):
    """Rules in order, of which the first that matches a call decides; `rules` and `tiers` as on the wire.

    Policies of a tenant are gone through by `position`, then by age. `version` rises with every edit.
    """

    version = models.IntegerField(default=1)
    name = models.CharField(max_length=200)
    position = models.IntegerField(default=0)
    enabled = models.BooleanField(default=True)
    rules = models.JSONField()
    tiers = models.JSONField(default=dict)
    time_zone = models.CharField(max_length=64, null=True, blank=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "routing_policies"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "id"], name="routing_policies_tenant_id"),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="routing_policies_version"),
            models.CheckConstraint(
                condition=models.Q(position__range=(0, 1_000_000)), name="routing_policies_position"
            ),
            models.CheckConstraint(condition=~models.Q(name=""), name="routing_policies_name"),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "position", "created_at", "id"],
                name="routing_policies_live",
                condition=models.Q(archived_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name
