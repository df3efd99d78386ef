"""Figures that cost as much as a tenant has customers or refusals: added up at once where that is quick, else in the
background, and shown with the time of which they are.

A page never waits longer than LIVE_MS for one. Where that does not suffice it shows what was added up last, asks for it
anew, and says so. A figure is asked for by those who look at it alone: what nobody looks at costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from budgets.domain.policy import EACH, Scope, WindowKind
from budgets.domain.windows import Window, window_at
from budgets.models import Budget, Figure
from budgets.queries.bounded import TookTooLong, limited
from budgets.queries.fullness import fullest
from budgets.queries.refusals import refused
from budgets.queries.spending import dearest
from noburn.kit import ids
from noburn.kit.jobs import hint
from tenants.models import Tenant

LIVE_MS: Final = 120
"""How long a page waits for a figure."""

SLOW_MS: Final = 30_000
"""How long the worker does."""

FRESH: Final = timedelta(seconds=60)
KEPT: Final = timedelta(days=2)
"""For how long a figure is shown while nobody can say a newer one."""

ROWS: Final = 10
ROUND_MAX: Final = 50
TASK: Final = "budgets.metering.figures"

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A figure: its body (None: it is added up for the first time), of when it is, and whether a newer one comes."""

    body: Body | None
    as_of: datetime | None
    pending: bool


def day_of(tenant: Tenant, now: datetime) -> Window:
    """Returns the tenant's own day, put back and forward to the hours in which usage is kept."""
    return _hours(window_at(WindowKind.DAY, now=now, zone=tenant.time_zone, anchor_day=None))


def month_of(tenant: Tenant, now: datetime) -> Window:
    """Returns the tenant's own month, put back and forward to full hours."""
    return _hours(window_at(WindowKind.MONTH, now=now, zone=tenant.time_zone, anchor_day=None))


def _hours(window: Window) -> Window:
    # Zones at half hours: usage knows hours of UTC alone.
    assert window.ends_at is not None
    starts_at = window.starts_at.replace(minute=0, second=0, microsecond=0)
    ends_at = window.ends_at.replace(minute=0, second=0, microsecond=0)
    return Window(starts_at, ends_at + timedelta(hours=1) if ends_at < window.ends_at else ends_at)


def _dearest(window: Callable[[Tenant, datetime], Window]) -> Callable[[Tenant, datetime], Body]:
    def read(tenant: Tenant, now: datetime) -> Body:
        since, until = window(tenant, now)
        assert until is not None
        rows = dearest(tenant_id=tenant.pk, since=since, until=until, limit=ROWS)
        names = ("customer", "cost_nano", "presumed_nano", "requests")
        return {
            "since": since.isoformat(),
            "customers": rows[0]["customers"] if rows else 0,
            "rows": [{name: row[name] for name in names} for row in rows],
        }

    return read


def _refused(window: Callable[[Tenant, datetime], Window]) -> Callable[[Tenant, datetime], Body]:
    def read(tenant: Tenant, now: datetime) -> Body:
        since, until = window(tenant, now)
        assert until is not None
        rows = refused(tenant_id=tenant.pk, since=since, until=until)
        return {
            "since": since.isoformat(),
            "calls": sum(row["calls"] for row in rows),
            "estimate_nano": sum(row["estimate_nano"] for row in rows),
            "rows": rows,
        }

    return read


def templates(tenant: Tenant, now: datetime) -> list[tuple[UUID, datetime]]:
    """Returns the tenant's live templates that have counters, each with the begin of its present window."""
    found = Budget.objects.filter(tenant=tenant, archived_at__isnull=True, subject=EACH)
    return [
        (budget.pk, window_of(budget, tenant, now).starts_at)
        for budget in found.exclude(scope=Scope.TENANT).exclude(window=WindowKind.MINUTE).order_by("pk")
    ]


def window_of(budget: Budget, tenant: Tenant, now: datetime) -> Window:
    """Returns the present window of a budget."""
    zone = budget.time_zone or tenant.time_zone
    return window_at(WindowKind(budget.window), now=now, zone=zone, anchor_day=budget.anchor_day)


def _fullest(tenant: Tenant, now: datetime) -> Body:
    rows = fullest(tenant_id=tenant.pk, windows=templates(tenant, now), limit=ROWS)
    return {
        "since": None,
        "rows": [{**row, "budget_id": ids.encode(ids.BUDGET, row["budget_id"])} for row in rows],
    }


KINDS: Final[Mapping[str, Callable[[Tenant, datetime], Body]]] = {
    "dearest_today": _dearest(day_of),
    "dearest_month": _dearest(month_of),
    "refused_today": _refused(day_of),
    "refused_month": _refused(month_of),
    "fullest": _fullest,
}


_ADDED: Final[dict[str, Callable[[Tenant, datetime], Body]]] = {}
_ABOUT: Final[dict[str, Callable[[Tenant, datetime, str], Body]]] = {}


def add_kind(name: str, read: Callable[[Tenant, datetime], Body]) -> None:
    """Takes a kind of another app's in. What it reads is bounded in time by whoever asks, its body has `since`."""
    _ADDED[name] = read


def add_kind_about(name: str, read: Callable[[Tenant, datetime, str], Body]) -> None:
    """The same of a kind that is about something: `name:about` in at most 40 characters."""
    _ABOUT[name] = read


def _read(kind: str, tenant: Tenant, now: datetime) -> Body:
    name, _, about = kind.partition(":")
    if about:
        return _ABOUT[name](tenant, now, about)
    return (KINDS[name] if name in KINDS else _ADDED[name])(tenant, now)


def figure(*, tenant: Tenant, kind: str, now: datetime) -> Shown:
    """Returns a figure: a fresh one, one that is quick to add up, or the last one while the worker adds it up anew."""
    row = Figure.objects.filter(tenant=tenant, kind=kind).first()
    known = row is not None and row.as_of is not None and row.body is not None
    if (
        row is not None
        and known
        and row.as_of is not None
        and now - row.as_of < FRESH
        and _same(row, tenant, now)
    ):
        return Shown(body=row.body, as_of=row.as_of, pending=False)
    # Once it took too long, only the worker tries again: nobody waits for nothing.
    if row is None or row.took_ms <= LIVE_MS:
        try:
            with limited(milliseconds=LIVE_MS):
                return Shown(body=_read(kind, tenant, now), as_of=now, pending=False)
        except TookTooLong:
            pass
    _ask(tenant, kind, row, now)
    if row is None or row.as_of is None or now - row.as_of > KEPT or not _same(row, tenant, now):
        return Shown(body=None, as_of=None, pending=True)
    return Shown(body=row.body, as_of=row.as_of, pending=True)


def _same(row: Figure, tenant: Tenant, now: datetime) -> bool:
    """Whether a figure is of the day or month that is shown now."""
    if row.body is None:
        return False
    since: str | None = row.body["since"]
    window = {"today": day_of, "month": month_of}.get(row.kind.rpartition("_")[2])
    return window is None or since == window(tenant, now).starts_at.isoformat()


def _ask(tenant: Tenant, kind: str, row: Figure | None, now: datetime) -> None:
    if row is None:
        Figure.objects.bulk_create(
            [Figure(tenant=tenant, kind=kind, asked_at=now, took_ms=LIVE_MS + 1)], ignore_conflicts=True
        )
    elif not Figure.objects.filter(pk=row.pk, asked_at__isnull=True).update(asked_at=now):
        return
    hint(TASK, queue="metering", expires_seconds=60)


def add_up(*, now: Callable[[], datetime]) -> int:
    """Adds up what is asked for, up to ROUND_MAX figures, those first that wait longest; returns how many.

    One that takes longer than SLOW_MS is left as it was, and may be asked for again.
    """
    asked = list(
        Figure.objects.filter(asked_at__isnull=False)
        .select_related("tenant")
        .order_by("asked_at", "pk")[:ROUND_MAX]
    )
    for row in asked:
        begun, at = time.monotonic(), now()
        changes: dict[str, Any] = {"asked_at": None}
        try:
            with limited(milliseconds=SLOW_MS):
                changes |= {"body": _read(row.kind, row.tenant, at), "as_of": at}
        except TookTooLong:
            pass
        changes["took_ms"] = round((time.monotonic() - begun) * 1000)
        with transaction.atomic():
            Figure.objects.filter(pk=row.pk).update(**changes)
    return len(asked)
