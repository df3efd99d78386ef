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


class AuditLink(TenantOwned):
    """An entry's place in its tenant's chain (`id` is the entry's): tenants/domain/audit_chain.py says what it is.

    In a table of its own, so that entries from before there was a chain could be linked without being altered.
    Append-only as the log is.
    """

    sequence = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
    kid = models.CharField(max_length=64)
    signature = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "sequence"], name="tenants_auditlink_sequence_once"),
            models.CheckConstraint(condition=models.Q(sequence__gte=1), name="tenants_auditlink_sequence"),
        ]

    def __str__(self) -> str:
        return str(self.sequence)


class AuditCheckpoint(TenantOwned):
    """What a tenant's chain was at a time, signed. A copy lies outside of the database. Append-only."""

    sequence = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
    kid = models.CharField(max_length=64)
    signature = models.BinaryField(max_length=32)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "sequence"], name="tenants_auditcheckpoint_sequence_once"
            ),
        ]

    def __str__(self) -> str:
        return str(self.sequence)
