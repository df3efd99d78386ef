"""Usage: what was spent by day, model, customer, project, plan or key; every number leads to what is behind it."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.http import HttpRequest, HttpResponse

from budgets.dashboard.charts import by_day
from budgets.dashboard.params import DAYS, BadParameter, filled, query, read_days, since_of
from budgets.queries.bounded import Row
from budgets.services.overview import spending_days
from budgets.services.spending import Spending, spending, spending_by_customer
from noburn.dashboard.exports import EXPORT_ROWS_MAX, export
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError
from noburn.kit.rest.pages import cursor_of, read_page
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

BY: Final = {
    "day": "By day",
    "model": "By model",
    "customer": "By customer",
    "project": "By project",
    "plan": "By plan",
    "api_key": "By key",
}
FILTERS: Final = ("customer", "model", "project")
ROWS: Final = 50
FIGURES: Final = ("requests", "errors", "tokens", "input_tokens", "output_tokens")


class Usage(TenantPage):
    """What was spent in the last days."""

    topic = Topic.USAGE
    section = "usage"
    title = "Usage"
    template_name = "budgets/usage.html"
    partials = {"usage-rows": "budgets/_usage_rows.html"}

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The page, or its rows as a file."""
        if form := request.GET.get("format"):
            by, rows = self._by(), self._read(EXPORT_ROWS_MAX + 1)["rows"]
            names = ["provider", "model"] if by == "model" else [by]
            figures = FIGURES if by not in ("customer",) or self._filters() else ("requests",)
            return export(
                form,
                name=f"{self.tenant.slug}-usage-by-{by}",
                columns=[*names, "cost_usd", "presumed_usd", *figures],
                rows=(
                    [
                        *(row["cells"]),
                        to_usd(row["cost_nano"]),
                        to_usd(row["presumed_nano"]),
                        *(row[name] for name in figures),
                    ]
                    for row in rows
                ),
            )
        return self.show()

    def _by(self) -> str:
        by = self.request.GET.get("by", "day")
        if by not in BY:
            raise BadParameter([FieldError("by", f"must be one of {', '.join(BY)}")])
        return by

    def _filters(self) -> dict[str, str]:
        return filled(self.request.GET, FILTERS, self.zone)

    def _read(self, limit: int) -> dict[str, Any]:
        by, days, filters = self._by(), read_days(self.request.GET), self._filters()
        since = since_of(days, now=self.now, zone=self.zone)
        if by == "day":
            found, zone = spending_days(tenant=self.tenant, days=days, now=self.now, **filters)
            rows = [self._day(row, zone, filters) for row in reversed(found)]
            totals = _added(found)
            chart = by_day(found, days=days, zone=zone, now=self.now, title=f"Spent by day, {days} days")
            return {"rows": rows, "totals": totals, "chart": chart, "chart_zone": zone, "next": ""}
        page = read_page(self.request.GET.dict(), key=[str])
        if by == "customer" and not filters:
            read = spending_by_customer(
                tenant=self.tenant,
                since=since,
                after=page.after[0] if page.after else "",
                limit=limit,
                now=self.now,
            )
            following = cursor_of([read.rows[-1]["customer"]]) if read.more and read.rows else ""
            return self._told(read, by, days, filters, following)
        read = spending(
            tenant=self.tenant,
            group=by,
            since=self._aligned(since, days),
            filters=filters,
            limit=limit,
            now=self.now,
        )
        return self._told(read, by, days, filters, "")

    def _aligned(self, since: datetime, days: int) -> datetime:
        # Sums of hours answer for a month; beyond it the whole days of UTC that hold these days do.
        return since if days <= 30 else since.replace(tzinfo=None).replace(tzinfo=ZoneInfo("UTC"))

    def _told(
        self, read: Spending, by: str, days: int, filters: dict[str, str], cursor: str
    ) -> dict[str, Any]:
        rows = [self._group(row, by, days, filters) for row in read.rows]
        following = query({**filters, "by": by, "days": str(days), "cursor": cursor}) if cursor else ""
        return {
            "rows": rows,
            "totals": read.totals,
            "next": following,
            "more": read.more,
            "complete_through": read.complete_through,
        }

    def _day(self, row: Row, zone: str, filters: dict[str, str]) -> Row:
        local = ZoneInfo(zone)
        date = row["bucket"].astimezone(local).date()
        ends_at = datetime.combine(date + timedelta(days=1), time(), local)
        link = {**filters, "from": row["bucket"].isoformat(), "to": ends_at.isoformat()}
        return {
            **row,
            "label": f"{date:%a} {date.day} {date:%b %Y}",
            "cells": [date.isoformat()],
            "behind": self.url("ledger") + query(link),
        }

    def _group(self, row: Row, by: str, days: int, filters: dict[str, str]) -> Row:
        names = row["names"]
        name = names[by]
        following = {**filters, by: name, "by": "day", "days": str(days)}
        # Nothing is kept by the day of a plan or key alone, which the page cannot filter by.
        leads = bool(name) and by in FILTERS
        return {
            **row,
            "label": name or "none named",
            "provider": names.get("provider", ""),
            "cells": list(names.values()),
            "behind": self.url("usage") + query(following) if leads else "",
            "customer_url": self.url("customer-named") + query({"id": name})
            if by == "customer" and name
            else "",
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The rows of the chosen kind."""
        by, days, filters = self._by(), read_days(self.request.GET), self._filters()
        tabs = [
            (label, query({**filters, "by": name, "days": str(days)}), name == by)
            for name, label in BY.items()
        ]
        spans = [
            (
                "Today" if span == 1 else f"{span} days",
                query({**filters, "by": by, "days": str(span)}),
                span == days,
            )
            for span in DAYS
        ]
        return {
            **super().get_context_data(**kwargs),
            **self._read(ROWS),
            "by": by,
            "by_label": BY[by],
            "days": days,
            "filters": filters,
            "tabs": tabs,
            "spans": spans,
            "without_filters": query({"by": by, "days": str(days)}),
            "first": query({**filters, "by": by, "days": str(days)})
            if self.request.GET.get("cursor")
            else "",
        }


def _added(rows: list[Row]) -> Row:
    return {name: sum(row[name] for row in rows) for name in ("cost_nano", "presumed_nano", *FIGURES)}
