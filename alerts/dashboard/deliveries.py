"""What became of each message, attempt by attempt, and sending one again."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse

from alerts.dashboard.base import AlertsPage
from alerts.domain.kinds import KINDS, kind_of
from alerts.models import Attempt, Delivery, DeliveryState
from alerts.services.deliveries import DeliveryNotFound, replay
from alerts.services.destinations import wire_id
from noburn.dashboard.exports import export
from noburn.dashboard.paths import path_id
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids

COLUMNS = (
    Column("made", "Raised", sort="pk"),
    Column("kind", "What"),
    Column("destination", "To"),
    Column("state", "State"),
    Column("attempts", "Attempts", numeric=True),
)


class Deliveries(AlertsPage):
    """Deliveries of the last 90 days."""

    tab = "deliveries"
    title = "Deliveries"
    template_name = "alerts/deliveries.html"
    partials = {"delivery-rows": "alerts/_delivery_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-deliveries",
                columns=[
                    "id",
                    "alert",
                    "kind",
                    "destination",
                    "state",
                    "attempts",
                    "created_at",
                    "finished_at",
                ],
                rows=(
                    [
                        ids.encode(ids.DELIVERY, row.pk),
                        ids.encode(ids.ALERT, row.alert_id),
                        row.alert.kind,
                        wire_id(row.destination),
                        row.state,
                        row.attempts,
                        row.created_at.isoformat(),
                        row.finished_at.isoformat() if row.finished_at else None,
                    ]
                    for row in self._rows().order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Delivery]:
        rows = Delivery.objects.filter(tenant_id=self.tenant_id).select_related("alert", "destination")
        if (state := self.request.GET.get("state", "")) in DeliveryState.values:
            rows = rows.filter(state=state)
        if (kind := self.request.GET.get("kind", "")) in KINDS:
            rows = rows.filter(alert__kind=kind)
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of deliveries."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-made")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [
                (row, ids.encode(ids.DELIVERY, row.pk), KINDS[row.alert.kind].title) for row in table.rows
            ],
            "states": DeliveryState.choices,
            "kinds": KINDS.values(),
            "filters": {name: self.request.GET.get(name, "") for name in ("state", "kind")},
        }


class OneDelivery(AlertsPage):
    """One delivery with its attempts; POST sends it again."""

    tab = "deliveries"
    title = "Delivery"
    template_name = "alerts/delivery.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The delivery, newest attempt first, and what was told."""
        newest = Prefetch("history", queryset=Attempt.objects.order_by("-number"), to_attr="newest_attempts")
        found = (
            Delivery.objects.select_related("alert", "destination")
            .prefetch_related(newest)
            .filter(tenant_id=self.tenant_id, pk=path_id(self.kwargs["dlv"], ids.DELIVERY))
            .first()
        )
        if found is None:
            raise DeliveryNotFound(self.kwargs["dlv"])
        return {
            **super().get_context_data(**kwargs),
            "delivery": found,
            "wire": self.kwargs["dlv"],
            "destination_wire": wire_id(found.destination),
            "text": kind_of(found.alert.kind).text(found.alert.details),
            "can_replay": found.state != DeliveryState.PENDING
            and found.destination.enabled
            and found.destination.removed_at is None,
        }

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Sends it again under the same id."""
        replay(
            tenant_id=self.tenant_id,
            delivery_id=path_id(self.kwargs["dlv"], ids.DELIVERY),
            actor=self.actor,
            now=self.now,
        )
        return self.go("delivery", dlv=self.kwargs["dlv"], say="It is on its way again.")
