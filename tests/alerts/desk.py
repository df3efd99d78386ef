"""One tenant's alerts in a test: raises, delivers, and moves the clock without waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from alerts.models import Alert, Attempt, Delivery, DeliveryState, Destination
from alerts.services.alerts import raise_alert
from alerts.services.deliveries import deliver_batch
from alerts.services.destinations import (
    DestinationChanges,
    MadeDestination,
    NewDestination,
    change_destination,
    create_destination,
)
from noburn.kit.outgoing import Outgoing

BATCHES_MAX = 1_000
ACTOR = "user:alice"
DETAILS = {
    "budget_name": "web",
    "percent": 80,
    "spent": "8",
    "limit": "10",
    "metric": "usd",
    "window": "month",
}
_numbers = count(1)


def forget_pending() -> None:
    """Cancels what other tests left waiting: time travels in these tests, and makes all of it due."""
    Delivery.objects.filter(state=DeliveryState.PENDING).update(
        state=DeliveryState.CANCELLED, finished_at=datetime.now(UTC)
    )


class Desk:
    """Alerts of one tenant. `now` is the time that everything is told."""

    def __init__(self, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.now = datetime.now(UTC)

    def later(self, **much: float) -> None:
        """Moves the clock."""
        self.now += timedelta(**much)

    def webhook(self, url: str, **fields: Any) -> MadeDestination:
        """A generic webhook."""
        return self.destination("webhook", url, **fields)

    def destination(self, kind: str, target: str, **fields: Any) -> MadeDestination:
        """A destination of any kind."""
        return create_destination(
            tenant_id=self.tenant_id,
            destination=NewDestination(kind=kind, target=target, **fields),
            actor=ACTOR,
            now=self.now,
        )

    def change(self, made: MadeDestination, **changes: Any) -> Destination:
        """Changes a destination."""
        return change_destination(
            tenant_id=self.tenant_id,
            destination_id=made.destination.pk,
            changes=DestinationChanges(**changes),
            actor=ACTOR,
            now=self.now,
        )

    def alert(self, key: str = "", *, kind: str = "threshold", **details: Any) -> bool:
        """Raises an alert, of a key of its own unless one is given."""
        return raise_alert(
            tenant_id=self.tenant_id,
            kind=kind,
            dedupe_key=key or f"test:{next(_numbers)}",
            subject="bud_x",
            details={**DETAILS, **details},
            now=self.now,
        )

    def deliver(self, outgoing: Outgoing | None = None) -> int:
        """Makes every delivery that is due now; returns how many attempts that took."""
        taken = 0
        for _ in range(BATCHES_MAX):
            done = deliver_batch(now=self.now, outgoing=outgoing, chance=lambda: 0.5)
            if not done:
                return taken
            taken += done
        raise AssertionError("there is no end of deliveries")

    def alerts(self) -> list[Alert]:
        """Alerts, oldest first."""
        return list(Alert.objects.filter(tenant_id=self.tenant_id).order_by("raised_at", "pk"))

    def deliveries(self) -> list[Delivery]:
        """Deliveries, oldest first."""
        found = Delivery.objects.filter(tenant_id=self.tenant_id).select_related("alert", "destination")
        return list(found.order_by("created_at", "pk"))

    def only(self) -> Delivery:
        """The one delivery that there is."""
        (found,) = self.deliveries()
        return found

    def history(self, delivery: Delivery) -> list[Attempt]:
        """A delivery's attempts."""
        return list(delivery.history.order_by("number"))
