"""Figures that take seconds to add up, as they were when somebody last asked; services/figures.py."""

from __future__ import annotations

from django.db import models

from tenants.models import TenantOwned


class Figure(TenantOwned):
    """One figure of a tenant's pages: `body` as of `as_of`, which took so many milliseconds; None while there is none.

    `asked_at` says since when somebody waits for it anew.
    """

    kind = models.CharField(max_length=40)
    body = models.JSONField(null=True)
    as_of = models.DateTimeField(null=True)
    took_ms = models.IntegerField(default=0)
    asked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "kind"], name="budgets_figure_one_per_kind"),
        ]
        indexes = [
            models.Index(
                fields=["asked_at"],
                name="budgets_figure_asked",
                condition=models.Q(asked_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} as of {self.as_of}"
