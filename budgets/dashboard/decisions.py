"""Decisions: what pre-flights were answered, and why."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from budgets.api.decisions import read_filter
from budgets.dashboard.decided import routed, shown
from budgets.dashboard.params import filled, local, query
from budgets.domain.refusal_words import SHORT
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.decisions import decision, decisions, gaps
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Invalid, Missing
from noburn.kit.rest.pages import cut, read_page
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

FILTERS: Final = (
    "decision",
    "reason",
    "customer",
    "user",
    "project",
    "run",
    "model",
    "budget",
    "guard",
    "tag",
    "from",
    "to",
)
MILLISECONDS: Final = 3_000
ROWS: Final = 50
COLUMNS: Final = (
    "id", "decided_at", "decision", "reason", "project", "customer", "user", "run", "provider", "model", "input_tokens",
    "max_output_tokens", "estimate_usd", "budget", "subject",
)  # fmt: skip


class TooSlow(Invalid):
    """A question that would be looked for too long."""

    def __init__(self) -> None:
        message = f"finding these takes longer than {MILLISECONDS // 1000} s: choose a shorter time"
        super().__init__([FieldError("from", message)])


class Decisions(TenantPage):
    """The log, newest first, and what is missing from it."""

    topic = Topic.USAGE
    section = "usage"
    title = "Decisions"
    template_name = "budgets/decisions.html"
    partials = {"decision-rows": "budgets/_decision_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows, _ = self._look(EXPORT_ROWS_MAX + 1)
            return export(
                form,
                name=f"{self.tenant.slug}-decisions",
                columns=COLUMNS,
                rows=(_cells(row) for row in rows),
            )
        return self.show()

    def _look(self, limit: int) -> tuple[list[Row], int]:
        params = filled(self.request.GET, FILTERS, self.zone)
        wanted = read_filter(params, self.tenant_id)
        page = read_page(self.request.GET.dict(), key=[UUID])
        try:
            with limited(milliseconds=MILLISECONDS):
                rows = decisions(wanted=wanted, before=page.after[0] if page.after else None, limit=limit)
                dropped, _ = gaps(
                    tenant_id=self.tenant_id, since=wanted.since, until=wanted.until, after=None, limit=1
                )
        except TookTooLong:
            raise TooSlow from None
        return rows, dropped

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of decisions."""
        found, dropped = self._look(ROWS + 1)
        rows, cursor = cut(found, ROWS, lambda row: [row["id"]])
        params = filled(self.request.GET, FILTERS, self.zone)
        shown_as = {name: local(v, self.zone) if name in ("from", "to") else v for name, v in params.items()}
        return {
            **super().get_context_data(**kwargs),
            "rows": shown(self.tenant_id, rows),
            "dropped": dropped,
            "filters": shown_as,
            "reasons": SHORT,
            "next": query({**params, "cursor": cursor}) if cursor else "",
            "first": query(params) if self.request.GET.get("cursor") else "",
        }


class Decision(TenantPage):
    """One decision with all that went into it."""

    topic = Topic.USAGE
    section = "usage"
    title = "Decision"
    template_name = "budgets/decision.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The decision."""
        try:
            wanted = ids.decode(ids.DECISION, self.kwargs["dec_id"])
        except ids.BadId:
            raise Missing(self.kwargs["dec_id"]) from None
        row = decision(tenant_id=self.tenant_id, decision_id=wanted)
        if row is None:
            raise Missing(self.kwargs["dec_id"])
        found = shown(self.tenant_id, [row])[0]
        return {
            **super().get_context_data(**kwargs),
            "decision": found,
            "routed": routed(self.tenant_id, found),
        }


def _cells(row: Row) -> list[Any]:
    return [
        ids.encode(ids.DECISION, row["id"]),
        row["decided_at"].isoformat(),
        "deny" if row["reason"] else "allow",
        row["reason"],
        row["project"],
        row["customer"],
        row["end_user"],
        row["run"],
        row["provider"],
        row["model"],
        row["input_tokens"],
        row["cap"],
        None if row["estimate_nano"] is None else to_usd(row["estimate_nano"]),
        ids.encode(ids.BUDGET, row["budget_id"]) if row["budget_id"] else None,
        row["subject"],
    ]
