"""Deliveries: one alert on its way to one destination, and every attempt at it."""

from __future__ import annotations

from django.db import models

from alerts.models.alerts import Alert
from alerts.models.base import Owned
from alerts.models.destinations import Destination


class DeliveryState(models.TextChoices):
    """Where a delivery stands: waiting for an attempt, arrived, given up, or no longer wanted."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Delivery(Owned):
    """One alert for one destination. Its id is the webhook-id, the same in every attempt and replay.

    A pending one is due at `next_attempt_at`; whoever works on it puts that off by a lease and leaves its mark in
    `claim`, so that a killed worker's comes due again. `tries` counts since the last replay, `attempts` all.
    """

    alert = models.ForeignKey(Alert, on_delete=models.PROTECT, related_name="deliveries", db_index=False)
    destination = models.ForeignKey(
        Destination, on_delete=models.PROTECT, related_name="deliveries", db_index=False
    )
    state = models.CharField(max_length=16, choices=DeliveryState, default=DeliveryState.PENDING)
    next_attempt_at = models.DateTimeField()
    claim = models.UUIDField(null=True, blank=True, editable=False)
    attempts = models.IntegerField(default=0)
    tries = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(fields=["alert", "destination"], name="alerts_delivery_once"),
            models.CheckConstraint(
                condition=models.Q(state__in=DeliveryState.values), name="alerts_delivery_state"
            ),
            models.CheckConstraint(
                condition=models.Q(state="pending", finished_at__isnull=True)
                | ~models.Q(state="pending") & models.Q(finished_at__isnull=False),
                name="alerts_delivery_finished",
            ),
        ]
        indexes = [
            models.Index(
                fields=["destination", "next_attempt_at", "id"],
                name="alerts_delivery_due",
                condition=models.Q(state="pending"),
            ),
            models.Index(fields=["tenant", "-created_at", "-id"], name="alerts_delivery_newest_first"),
            models.Index(fields=["created_at"], name="alerts_delivery_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.state} after {self.attempts}"


class Attempt(Owned):
    """One attempt at a delivery. Without an end the worker died in it, or is still at it."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="history", db_index=False)
    number = models.IntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    ok = models.BooleanField(default=False)
    status = models.IntegerField(null=True, blank=True)
    ms = models.IntegerField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True, db_default="")
    excerpt = models.CharField(max_length=500, blank=True, db_default="")

    class Meta:
        constraints = [
            *Owned.Meta.constraints,
            models.UniqueConstraint(fields=["delivery", "number"], name="alerts_attempt_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.number}: {self.status or self.error}"
