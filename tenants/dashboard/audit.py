"""The audit log: who changed what, newest first."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.dashboard.tables import Column, table_of
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic
from tenants.models import AuditEntry
from tenants.queries.actors import actor_names
from tenants.queries.audit import chain_end

COLUMNS = (
    Column("at", "When", sort="pk"),
    Column("actor", "Who"),
    Column("action", "What"),
    Column("object", "Of what"),
    Column("change", "Change"),
)


class AuditLog(TenantPage):
    """What was changed, by whom, from what to what."""

    topic = Topic.AUDIT
    section = "audit"
    title = "Audit log"
    template_name = "tenants/audit.html"
    partials = {"audit-rows": "tenants/_audit_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self._rows().order_by("-pk")[: EXPORT_ROWS_MAX + 1]
            return export(
                form,
                name=f"{self.tenant.slug}-audit",
                columns=["at", "actor", "action", "object", "before", "after"],
                rows=(
                    [
                        row.at.isoformat(),
                        row.actor,
                        row.action,
                        row.object,
                        json.dumps(row.before),
                        json.dumps(row.after),
                    ]
                    for row in rows
                ),
            )
        return self.show()

    def _rows(self) -> QuerySet[AuditEntry]:
        rows = AuditEntry.objects.filter(tenant_id=self.tenant_id)
        for name in ("actor", "action", "object"):
            if value := self.request.GET.get(name, "").strip()[:300]:
                rows = rows.filter(**{name: value})
        return rows

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of entries."""
        table = table_of(self._rows(), self.request.GET, columns=COLUMNS, sort="-at")
        names = actor_names(tenant_id=self.tenant_id, actors=[row.actor for row in table.rows])
        return {
            **super().get_context_data(**kwargs),
            "table": table,
            "chain": chain_end(tenant_id=self.tenant_id),
            "entries": [(row, names.get(row.actor, "")) for row in table.rows],
            "filters": {name: self.request.GET.get(name, "") for name in ("actor", "action", "object")},
        }
