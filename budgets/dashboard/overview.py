"""The overview: what is spent, what was refused, who spends, and what is decided at this moment."""

from __future__ import annotations

from typing import Any, Final

from budgets.dashboard.charts import by_day
from budgets.dashboard.decided import shown
from budgets.domain.refusal_words import SHORT
from budgets.models import Budget
from budgets.queries.bounded import TookTooLong, limited
from budgets.queries.decisions import DecisionFilter, decisions
from budgets.services.figures import ROWS, Shown
from budgets.services.overview import CHART_DAYS, overview, slow_figures
from noburn.kit import ids
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic

FEED_ROWS: Final = 12
FEED_MS: Final = 500


class Overview(TenantPage):
    """Spending against budgets, today and this month; refusals; the dearest; the newest decisions."""

    topic = Topic.USAGE
    section = "overview"
    title = "Overview"
    template_name = "budgets/overview.html"
    partials = {"slow-figures": "budgets/_slow_figures.html"}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """All of it, or the figures that take longer where htmx asks for them alone."""
        slow = slow_figures(tenant=self.tenant, now=self.now)
        context = {**super().get_context_data(**kwargs), "slow": self._slow(slow)}
        if self.get_template_names() != [self.template_name]:
            return context
        found = overview(tenant=self.tenant, now=self.now)
        chart = by_day(
            found.days,
            days=CHART_DAYS,
            zone=found.zone,
            now=self.now,
            title=f"Spent by day, {CHART_DAYS} days",
        )
        return {
            **context,
            "found": found,
            "standings": [
                {"wire": ids.encode(ids.BUDGET, one.budget.pk), "standing": one} for one in found.standings
            ],
            "chart": chart,
            "chart_zone": found.zone,
            "feed": newest(self),
        }

    def _slow(self, figures: dict[str, Shown]) -> dict[str, Any]:
        wanted = [row["budget_id"] for row in (figures["fullest"].body or {"rows": []})["rows"]]
        known = Budget.objects.filter(
            tenant_id=self.tenant_id, pk__in=[ids.decode(ids.BUDGET, each) for each in wanted]
        )
        budgets = {ids.encode(ids.BUDGET, budget.pk): budget for budget in known}
        body = figures["fullest"].body
        return {
            **figures,
            "pending": any(each.pending for each in figures.values()),
            "rows": ROWS,
            "reasons": [
                {**row, "short": SHORT.get(row["reason"], row["reason"])}
                for row in (figures["refused_month"].body or {"rows": []})["rows"]
            ],
            "subjects": None
            if body is None
            else [
                {**row, "budget": budgets[row["budget_id"]]}
                for row in body["rows"]
                if row["budget_id"] in budgets
            ],
        }


def newest(page: TenantPage) -> list[dict[str, Any]]:
    """Returns the newest decisions of a page's tenant; none if they are not found at once."""
    try:
        with limited(milliseconds=FEED_MS):
            rows = decisions(wanted=DecisionFilter(tenant_id=page.tenant_id), before=None, limit=FEED_ROWS)
    except TookTooLong:
        return []
    return shown(page.tenant_id, rows)
