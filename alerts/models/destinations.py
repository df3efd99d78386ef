"""Destinations: where alerts are sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.db import models

from alerts.models.base import Owned


class DestinationKind(models.TextChoices):
    """How a destination is reached."""

    EMAIL = "email"
    SLACK = "slack"
    WEBHOOK = "webhook"


class DisabledBecause(models.TextChoices):
    """Why a destination is off."""

    PERSON = "person"
    GONE = "gone"
    FAILING = "failing"


class Destination(Owned):
    """One e-mail address, Slack-compatible webhook or generic webhook.

    `address` is what may be shown: an e-mail address or a URL; of a Slack URL, which is a secret as a whole, only
    its host. `secret` holds, sealed, what signs a webhook, or the Slack URL. During a rotation the previous secret
    signs as well until `previous_secret_until`. `alert_kinds` empty means every kind.
    """

    version = models.IntegerField(default=1)
    kind = models.CharField(max_length=16, choices=DestinationKind)
    description = models.CharField(max_length=200, blank=True, db_default="")
    address = models.CharField(max_length=2048)
    alert_kinds = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    secret = models.TextField(blank=True, db_default="", editable=False)
    previous_secret = models.TextField(blank=True, db_default="", editable=False)
    previous_secret_until = models.DateTimeField(null=True, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_because = models.CharField(max_length=16, choices=DisabledBecause, blank=True, db_default="")
    failures = models.IntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(editable=False)
    updated_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            *Owned.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(kind__in=DestinationKind.values), name="alerts_destination_kind"
            ),
            models.CheckConstraint(
                condition=models.Q(kind="email") | ~models.Q(secret="") | models.Q(removed_at__isnull=False),
                name="alerts_destination_secret",
            ),
            models.CheckConstraint(
                condition=models.Q(removed_at__isnull=True) | models.Q(enabled=False),
                name="alerts_destination_removed_is_off",
            ),
            models.CheckConstraint(condition=models.Q(version__gte=1), name="alerts_destination_version"),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "created_at", "id"],
                name="alerts_destination_present",
                condition=models.Q(removed_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.place}"

    @property
    def place(self) -> str:
        """What may be told of the address anywhere: a URL's path and query may be secret, its host is not."""
        if self.kind == DestinationKind.EMAIL:
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc}"
