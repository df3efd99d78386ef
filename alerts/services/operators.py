"""The operators' destinations: rows of the installation, made from the settings.

Rows, so that deliveries, retries and the record of attempts are the same for operators as for tenants; from the
settings, so that who is told of trouble does not hang on what the trouble may have broken, and nobody but who runs
the machines can change it.
"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import connection, transaction

from alerts.models import Delivery, DeliveryState, Destination, DestinationKind, DisabledBecause
from alerts.services.secrets import sealer, shown_url
from noburn.kit import ids

OPERATOR_DESTINATIONS_MAX = 50
LOCK = 420_020
"""The advisory lock under which they change."""


def keep_destinations(*, now: datetime) -> None:
    """Makes the installation's destinations what the settings say: new ones on, forgotten ones removed."""
    wanted = _wanted()
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Two that find none would both make them.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for destination in Destination.objects.filter(tenant=None, removed_at=None).order_by("id"):
            secret = sealer().open(destination.secret) if destination.secret else ""
            if (destination.kind, destination.address, secret) in wanted:
                wanted.remove((destination.kind, destination.address, secret))
            else:
                _remove(destination, now)
        for kind, address, secret in wanted:
            Destination.objects.create(
                id=ids.new_uuid(now),
                tenant=None,
                kind=kind,
                address=address,
                description="from the settings",
                secret=sealer().seal(secret) if secret else "",
                created_at=now,
                updated_at=now,
            )


def _wanted() -> list[tuple[str, str, str]]:
    """Kind, shown address and secret of each destination. A webhook without a secret is a Slack-compatible one."""
    wanted = [
        (DestinationKind.EMAIL.value, address, "") for address in dict.fromkeys(settings.OPERATOR_EMAILS)
    ]
    url, secret = settings.OPERATOR_WEBHOOK_URL, settings.OPERATOR_WEBHOOK_SECRET
    if url and secret:
        wanted.append((DestinationKind.WEBHOOK.value, url, secret))
    elif url:
        wanted.append((DestinationKind.SLACK.value, shown_url(url), url))
    return wanted[:OPERATOR_DESTINATIONS_MAX]


def _remove(destination: Destination, now: datetime) -> None:
    destination.removed_at = destination.updated_at = now
    destination.enabled = False
    destination.disabled_because = DisabledBecause.PERSON
    destination.secret = ""
    destination.save()
    Delivery.objects.filter(destination=destination, state=DeliveryState.PENDING).update(
        state=DeliveryState.CANCELLED, finished_at=now
    )
