"""What a tenant sees first: spending of today and the month, where it goes, what was refused, and who stands how."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from budgets.domain.forecasts import Forecast, forecast
from budgets.domain.usage import read_question
from budgets.domain.windows import Window
from budgets.models import Budget
from budgets.queries import usage
from budgets.queries.bounded import Row
from budgets.services.figures import Shown, day_of, figure, month_of
from budgets.services.standing import Standing, of_tenant
from noburn.kit.problems import Invalid
from tenants.models import Tenant

CHART_DAYS: Final = 30
BUDGETS: Final = 6
MODELS: Final = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What was spent in a window of time; rows of usage have `cost_nano`, `requests`, `errors`, `tokens`."""

    window: Window
    totals: Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything on the page that costs little however large the tenant is."""

    today: Spent
    month: Spent
    month_forecast: Forecast | None
    days: list[Row]
    zone: str
    models: list[Row]
    standings: list[Standing]
    has_budgets: bool
    complete_through: datetime | None


def spending_days(*, tenant: Tenant, days: int, now: datetime, **filters: str) -> tuple[list[Row], str]:
    """Returns usage by the day for the last `days` days, days without any left out, and the zone whose days they are.

    The tenant's, or UTC where that zone is at half hours, or where hours of so long ago are not kept.
    """
    params = {"bucket": "day", "from": (now - timedelta(days=days - 1)).isoformat(), **filters}
    try:
        question = read_question({**params, "time_zone": tenant.time_zone}, now=now)
        found = usage.ask(tenant_id=tenant.pk, question=question, after=None, limit=days + 1)
    except Invalid:
        question = read_question(params, now=now)
        found = usage.ask(tenant_id=tenant.pk, question=question, after=None, limit=days + 1)
    return found.rows, question.zone


def overview(*, tenant: Tenant, now: datetime) -> Overview:
    """Reads it. The rest of the page are figures that may take longer (`slow_figures`)."""
    today, month = day_of(tenant, now), month_of(tenant, now)
    days, zone = spending_days(tenant=tenant, days=CHART_DAYS, now=now)
    question = read_question({"bucket": "none", "from": today.starts_at.isoformat()}, now=now)
    spent_today = usage.ask(tenant_id=tenant.pk, question=question, after=None, limit=1)
    by_model = {
        "bucket": "none",
        "group_by": "provider,model",
        "sort": "-cost_usd",
        "from": month.starts_at.isoformat(),
    }
    question = read_question(by_model, now=now)
    models = usage.ask(tenant_id=tenant.pk, question=question, after=None, limit=MODELS)
    live = Budget.objects.filter(tenant=tenant, archived_at__isnull=True)
    return Overview(
        today=Spent(window=today, totals=spent_today.totals),
        month=Spent(window=month, totals=models.totals),
        month_forecast=forecast(
            spent=models.totals["cost_nano"],
            limit=None,
            starts_at=month.starts_at,
            ends_at=month.ends_at,
            now=now,
        ),
        days=days,
        zone=zone,
        models=models.rows[:MODELS],
        standings=of_tenant(tenant=tenant, now=now, limit=BUDGETS),
        has_budgets=live.exists(),
        complete_through=models.complete_through,
    )


def slow_figures(*, tenant: Tenant, now: datetime) -> dict[str, Shown]:
    """Returns the figures that grow with customers or refusals, each as of when it was added up."""
    kinds = ("dearest_month", "refused_today", "refused_month", "fullest")
    return {kind: figure(tenant=tenant, kind=kind, now=now) for kind in kinds}
