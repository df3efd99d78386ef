"""API keys. A secret is never stored: only a keyed digest, and what a person needs to tell keys apart."""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from tenants.models.base import TenantOwned
from tenants.models.tenancy import Project


class KeyScope(models.TextChoices):
    """What a key may do."""

    PREFLIGHT = "preflight"
    SETTLE = "settle"
    READ = "read"
    MANAGE = "manage"


class ApiKey(TenantOwned):
    """A credential of a tenant, of one project or of all of them (`project` null)."""

    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_constraint=False
    )
    name = models.CharField(max_length=200)
    prefix = models.CharField(max_length=16)
    last4 = models.CharField(max_length=4)
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    pepper = models.CharField(max_length=8, db_default="", editable=False)
    """Which pepper the digest was made with, by `pepper_id`; empty for keys older than the first rotation could be."""
    scopes = ArrayField(models.CharField(max_length=16, choices=KeyScope))
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Coarse: written at most once in some minutes, so that a busy key is not a hot row.
    last_used_at = models.DateTimeField(null=True, blank=True)
    replaced_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="+", db_constraint=False
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(scopes__contained_by=KeyScope.values, scopes__len__gte=1),
                name="tenants_apikey_scopes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"

    def is_live(self, now: datetime) -> bool:
        """Tells whether the key authenticates new calls at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
