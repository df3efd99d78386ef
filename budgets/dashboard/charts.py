"""Charts of spending."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from budgets.queries.bounded import Row
from noburn.dashboard.charts import Chart, Series
from noburn.dashboard.wording import usd


def by_day(rows: Sequence[Row], *, days: int, zone: str, now: datetime, title: str) -> Chart:
    """Returns what each day cost; a day without a row cost nothing."""
    local = ZoneInfo(zone)
    costs = {row["bucket"].astimezone(local).date(): int(row["cost_nano"]) for row in rows}
    today = now.astimezone(local).date()
    dates = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return Chart(
        title=title,
        labels=[f"{date.day} {date:%b}" for date in dates],
        series=[Series("Spent", [costs.get(date, 0) for date in dates])],
        kind="bars",
        say=usd,
    )
