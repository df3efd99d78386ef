"""The inbox of Stripe's webhooks: verified, stored, handled."""

from __future__ import annotations

from django.db import models

from alerts.models.base import Owned


class EventState(models.TextChoices):
    """What became of an event: to be handled, handled, of no interest, or given up."""

    PENDING = "pending"
    HANDLED = "handled"
    IGNORED = "ignored"
    FAILED = "failed"


class StripeEvent(Owned):
    """One event, once for its id. Without a tenant it is of the platform's own account.

    A pending one is due at `next_attempt_at`; whoever handles it puts that off by a lease first.
    """

    event_id = models.CharField(max_length=100)
    type = models.CharField(max_length=100)
    payload = models.JSONField()
    livemode = models.BooleanField()
    happened_at = models.DateTimeField()
    received_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=EventState, default=EventState.PENDING)
    tries = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    handled_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, db_default="")

    class Meta:
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "event_id"], name="billing_stripeevent_once", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=EventState.values), name="billing_stripeevent_state"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_stripeevent_due",
                condition=models.Q(state="pending"),
            ),
            models.Index(fields=["received_at"], name="billing_stripeevent_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
