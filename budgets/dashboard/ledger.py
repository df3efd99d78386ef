"""The ledger: the entries behind every number, and all that became of one hold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from budgets.api.ledger import KINDS, entry_of, place_instant, place_revision, read_filter
from budgets.dashboard.decisions import MILLISECONDS, TooSlow
from budgets.dashboard.params import filled, local, query
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.queries.ledger import entries, entries_of_hold
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import Missing
from noburn.kit.rest.pages import cut, read_page
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

FILTERS: Final = ("customer", "user", "project", "model", "run", "kind", "from", "to")
ROWS: Final = 50
REVISIONS_MAX: Final = 100
SINCE: Final = timedelta(days=1)
"""How far back it looks where nothing says: entries are in the order of time alone."""

COLUMNS: Final = (
    "hold_id", "revision", "kind", "placed_at", "recorded_at", "project", "customer", "user", "run", "plan", "api_key",
    "provider", "model", "reported_model", "price_id", "cost_usd", "tokens", "requests", "outcome", "latency_ms",
)  # fmt: skip


class Ledger(TenantPage):
    """Entries by the time at which their holds were placed, the latest first."""

    topic = Topic.USAGE
    section = "usage"
    title = "Ledger"
    template_name = "budgets/ledger.html"
    partials = {"ledger-rows": "budgets/_ledger_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            rows = self._look(self._params(), EXPORT_ROWS_MAX + 1)
            return export(
                form, name=f"{self.tenant.slug}-ledger", columns=COLUMNS, rows=(_cells(row) for row in rows)
            )
        return self.show()

    def _params(self) -> dict[str, str]:
        params = filled(self.request.GET, FILTERS, self.zone)
        if not params.keys() & {"from", "to"}:
            params["from"] = (self.now - SINCE).replace(microsecond=0).isoformat()
        return params

    def _look(self, params: dict[str, str], limit: int) -> list[Row]:
        wanted = read_filter(params, self.tenant_id)
        page = read_page(self.request.GET.dict(), key=[place_instant, UUID, place_revision])
        before = None if page.after is None else (page.after[0], page.after[1], page.after[2])
        try:
            with limited(milliseconds=MILLISECONDS):
                return entries(wanted=wanted, before=before, limit=limit)
        except TookTooLong:
            raise TooSlow from None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of entries."""
        params = self._params()
        rows, cursor = cut(
            self._look(params, ROWS + 1),
            ROWS,
            lambda row: [row["placed_at"].isoformat(), row["hold_id"], row["revision"]],
        )
        return {
            **super().get_context_data(**kwargs),
            "rows": [_shown(row) for row in rows],
            "filters": {n: local(v, self.zone) if n in ("from", "to") else v for n, v in params.items()},
            "kinds": KINDS,
            "next": query({**params, "cursor": cursor}) if cursor else "",
            "first": query(params) if self.request.GET.get("cursor") else "",
        }


class Hold(TenantPage):
    """Every entry of one hold, the first one first, and what they add up to."""

    topic = Topic.USAGE
    section = "usage"
    title = "Hold"
    template_name = "budgets/hold.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The hold."""
        wire = self.kwargs["hold_id"]
        try:
            hold_id = ids.decode(ids.HOLD, wire)
        except ids.BadId:
            raise Missing(wire) from None
        rows = entries_of_hold(tenant_id=self.tenant_id, hold_id=hold_id, limit=REVISIONS_MAX)
        if not rows:
            raise Missing(wire)
        return {
            **super().get_context_data(**kwargs),
            "hold": wire,
            "rows": [_shown(row) for row in rows],
            "first": rows[0],
            # A re-rating changes what a call costs, and not what it is.
            "state": next(
                (row["kind"] for row in reversed(rows) if row["kind"] != "rerated"), rows[0]["kind"]
            ),
            **{name: sum(row[name] for row in rows) for name in ("cost_nano", "tokens", "requests")},
        }


def _shown(row: Row) -> dict[str, Any]:
    return {**entry_of(row), "wire": ids.encode(ids.HOLD, row["hold_id"])}


def _cells(row: Row) -> list[Any]:
    return [
        ids.encode(ids.HOLD, row["hold_id"]),
        row["revision"],
        row["kind"],
        row["placed_at"].isoformat(),
        row["recorded_at"].isoformat(),
        *(row[name] for name in ("project", "customer", "end_user", "run", "plan", "api_key")),
        *(row[name] for name in ("provider", "model", "reported_model", "price_id")),
        to_usd(row["cost_nano"]),
        row["tokens"],
        row["requests"],
        row["outcome"],
        row["latency_ms"],
    ]
