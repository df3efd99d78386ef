"""Runaway guards of tenants. Every live one is in the compiled policy; docs/guards.md."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from budgets.domain.guards import SCOPES
from budgets.domain.policy import GuardKind
from tenants.models import TenantOwned


class GuardMode(models.TextChoices):
    """Whether a guard stops calls, or only tells that it would have."""

    OBSERVE = "observe"
    ENFORCE = "enforce"


class Guard(TenantOwned):
    """One guard. `limits` are whole numbers by name (`budgets.domain.guards.LIMITS`), amounts in nano-USD."""

    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in GuardKind])
    mode = models.CharField(max_length=8, choices=GuardMode, default=GuardMode.OBSERVE)
    scope = models.CharField(max_length=16, choices=[(scope.value, scope.value) for scope in SCOPES])
    subject = models.CharField(max_length=300)
    limits = models.JSONField()
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(kind__in=[kind.value for kind in GuardKind]), name="budgets_guard_kind"
            ),
            models.CheckConstraint(condition=models.Q(mode__in=GuardMode.values), name="budgets_guard_mode"),
            models.CheckConstraint(
                condition=models.Q(scope__in=[scope.value for scope in SCOPES]), name="budgets_guard_scope"
            ),
            models.CheckConstraint(condition=~models.Q(subject=""), name="budgets_guard_subject"),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "created_at", "id"],
                name="budgets_guard_live",
                condition=models.Q(archived_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name
