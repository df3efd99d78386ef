"""The audit log: who changed what, written in the transaction of the change, never altered."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from tenants.models.base import TenantOwned


class AuditEntry(TenantOwned):
    """One change. `action` is `topic.verb`, `object` the wire id of what changed; secrets never appear.

    A trigger refuses UPDATE and DELETE for everyone, and the application's role does not hold those rights.
    """

    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=64)
    object = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "audit entries"
        constraints = [*TenantOwned.Meta.constraints]
        indexes = [models.Index(fields=["tenant", "-at", "-id"], name="tenants_audit_newest_first")]

    def __str__(self) -> str:
        return f"{self.action} {self.object}"
