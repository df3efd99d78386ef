"""What happened that somebody wants to hear of, newest first."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from alerts.dashboard.base import AlertsPage
from alerts.domain.kinds import KINDS, Severity, kind_of
from alerts.models import Alert, Destination
from noburn.dashboard.exports import export
from noburn.dashboard.tables import Column, table_of
from noburn.kit import ids

COLUMNS = (
    Column("raised", "When", sort="pk"),
    Column("severity", "Severity"),
    Column("title", "What"),
    Column("subject", "About"),
)


class Alerts(AlertsPage):
    """The tenant's alerts; those that only keep a lower threshold from being told are left out."""

    tab = "alerts"
    title = "Alerts"
    template_name = "alerts/alerts.html"
    partials = {"alert-rows": "alerts/_alert_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            return export(
                form,
                name=f"{self.tenant.slug}-alerts",
                columns=["id", "raised_at", "kind", "severity", "subject", "title"],
                rows=(
                    [
                        ids.encode(ids.ALERT, row.pk),
                        row.raised_at.isoformat(),
                        row.kind,
                        row.severity,
                        row.subject,
                        kind_of(row.kind).text(row.details).title,
                    ]
                    for row in self._rows().order_by("-pk").iterator(chunk_size=1_000)
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[Alert]:
        rows = Alert.objects.filter(tenant_id=self.tenant_id).exclude(silent=True, kind="threshold")
        for name, known in (("kind", KINDS), ("severity", list(Severity))):
            value = self.request.GET.get(name, "")
            if value in known:
                rows = rows.filter(**{name: value})
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of alerts, in words."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-raised")
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "rows": [(row, kind_of(row.kind).text(row.details)) for row in table.rows],
            "kinds": KINDS.values(),
            "severities": list(Severity),
            "filters": {name: self.request.GET.get(name, "") for name in ("kind", "severity")},
            "is_told": Destination.objects.filter(
                tenant_id=self.tenant_id, removed_at=None, enabled=True
            ).exists(),
        }
