"""The figures on the operators' front page. What cannot be had in time is None, never zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from alerts.models import Alert, Delivery, DeliveryState
from budgets.domain.escrow import SHARDS
from budgets.queries import epochs as query
from budgets.queries.bounded import Row, TookTooLong, limited
from budgets.services import metering

FIGURE_MS = 1_500

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class MoneyPath:
    """How the escrow stands: shards with a valid epoch; stranded and overrun by metric, over current windows."""

    open_shards: int | None
    shards: int
    stranded: list[Row] | None
    overrun: list[Row] | None


def money_path() -> MoneyPath:
    """Reads each figure for at most FIGURE_MS."""
    return MoneyPath(
        open_shards=in_time(query.open_shards),
        shards=SHARDS,
        stranded=in_time(query.stranded_totals),
        overrun=in_time(query.overrun_totals),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What operators should hear of: tenants whose figures drifted today, and deliveries given up since yesterday."""

    drifting: int | None
    failed_deliveries: int | None


def told(*, now: datetime) -> Told:
    """Reads each figure for at most FIGURE_MS."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    drifts = Alert.objects.filter(tenant=None, kind="drift", silent=False, raised_at__gte=today)
    # A delivery is tried for a day, so one that failed since yesterday was made the day before at the earliest.
    failed = Delivery.objects.filter(
        created_at__gte=now - timedelta(days=3),
        state=DeliveryState.FAILED,
        finished_at__gte=now - timedelta(days=1),
    )
    return Told(drifting=in_time(drifts.count), failed_deliveries=in_time(failed.count))


@dataclass(frozen=True, kw_only=True, slots=True)
class RollupLag:
    """How far the rollups of usage are behind the ledger: entries that wait, and since when."""

    waiting: int
    through_at: datetime | None
    at_home: bool


def rollup_lag() -> RollupLag | None:
    """Reads it for at most FIGURE_MS."""
    found = in_time(metering.status)
    if found is None:
        return None
    return RollupLag(waiting=found.waiting, through_at=found.through_at, at_home=found.at_home)


def in_time(read: Callable[[], T]) -> T | None:
    """What `read` returns, or None when the database did not answer within FIGURE_MS."""
    try:
        with limited(milliseconds=FIGURE_MS):
            return read()
    except TookTooLong:
        return None
