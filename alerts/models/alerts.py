"""Alerts: something happened that somebody wants to hear of, once."""

from __future__ import annotations

from django.db import models

from alerts.domain.kinds import Severity
from alerts.models.base import Owned


class Alert(Owned):
    """One thing that happened. `dedupe_key` tells it from others: the same key is never told twice.

    `subject` is a wire id, or a name, of what it is about. A `silent` one only keeps its key taken: a larger one of
    the same moment was told instead. It is pruned after `keep_until`; never, when that is null.
    """

    kind = models.CharField(max_length=32)
    severity = models.CharField(max_length=16, choices=[(s.value, s.value) for s in Severity])
    dedupe_key = models.CharField(max_length=200)
    subject = models.CharField(max_length=300)
    details = models.JSONField()
    silent = models.BooleanField(default=False)
    raised_at = models.DateTimeField()
    keep_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "dedupe_key"], name="alerts_alert_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(severity__in=[s.value for s in Severity]), name="alerts_alert_severity"
            ),
            models.CheckConstraint(condition=~models.Q(dedupe_key=""), name="alerts_alert_dedupe_key"),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "-raised_at", "-id"],
                name="alerts_alert_newest_first",
                condition=models.Q(silent=False),
            ),
            models.Index(fields=["keep_until"], name="alerts_alert_keep_until"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"
