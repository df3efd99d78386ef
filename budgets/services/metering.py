"""Rolls the ledger up by hour and by day, compares, counts anew and forgets; docs/metering.md.

Each step is one transaction: entries, rollups, cursor and what others are told of the entries belong together, so a
worker may be killed anywhere and two may run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import psycopg
from django.db import Error, OperationalError, connection, transaction
from django.dispatch import Signal

from budgets.services import alerting
from budgets.stores.postgres import metering as store
from budgets.stores.postgres.metering import Figure, Status, Step

__all__ = [
    "Figure",
    "Rolled",
    "Status",
    "UsageBusy",
    "UsageMoved",
    "hours_needed",
    "kept_from",
    "prune",
    "rebuild",
    "roll",
    "status",
    "verify",
]

log = logging.getLogger(__name__)

STEP_ENTRIES = 5_000
STEPS_MAX = 60
"""In one call of `roll`; what is left waits for the next."""

PRUNE_ROWS = 5_000
PRUNE_STEPS_MAX = 1_000
HOURS_DAYS_MIN = 32
"""Hours are kept at least as long as they may be asked for in one question."""

HOURS_DAYS_MAX = 400
"""Nobody has hours kept for longer, whatever they still need them for."""

hours_needed = Signal()
"""Sent before hours are pruned: `now` (aware). A receiver returns the earliest hour that it still needs, or None."""

LOCK_MS = 500
LOCK_TRIES = 40
DIFFERENCES_MAX = 10_000


class UsageMoved(Exception):
    """The database is a restored dump: positions mean nothing until `manage.py usage rebuild` has drawn a line."""


class UsageBusy(Exception):
    """The ledger was in use without a pause, so that its lock could not be had; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """What one call of `roll` did.

    `busy`: another worker was at it. `more`: entries are left that could have been taken. `behind_seconds` is the age of
    the last moment before which everything committed is rolled up; None if none is known yet.
    """

    entries: int
    steps: int
    busy: bool
    more: bool
    behind_seconds: float | None


def roll(*, now: datetime, step_entries: int = STEP_ENTRIES, steps_max: int = STEPS_MAX) -> Rolled:
    """Rolls up what has been committed, in bounded steps, and tells alerting of each. Raises UsageMoved."""
    entries = steps = 0
    busy = more = False
    through_at: datetime | None = None
    for _ in range(steps_max):
        with _told(), transaction.atomic():
            with connection.cursor() as cursor:
                step = store.roll_step(cursor, step_entries)
            if step is None:
                busy, more = True, False
                break
            if step.entries:
                _tell(step, now)
        entries, steps, more, through_at = entries + step.entries, steps + 1, step.more, step.through_at
        if not more:
            break
    behind = max(0.0, (now - through_at).total_seconds()) if through_at else None
    return Rolled(entries, steps, busy, more, behind)


def status() -> Status:
    """How far the rollups are."""
    with connection.cursor() as cursor:
        return store.status(cursor)


def verify(*, tenant_id: UUID | None = None) -> Iterator[Figure]:
    """Compares every rollup with the ledger, a tenant's day at a time; yields what differs, DIFFERENCES_MAX at most.

    Exact while settlements and rollers are at work: each day is read as of one moment.
    """
    found = 0
    for tenant, day in _days(tenant_id):
        since = datetime.combine(day, time(), UTC)
        with connection.cursor() as cursor:
            figures = store.verify(cursor, tenant, since, since + timedelta(days=1))
        for figure in figures[: DIFFERENCES_MAX - found]:
            found += 1
            yield figure
        if found == DIFFERENCES_MAX:
            return


def rebuild(
    *, tenant_id: UUID | None = None, resume: bool = True
) -> Generator[tuple[UUID, date, int], None, None]:
    """Counts anew from the ledger, a tenant's day a transaction; yields (tenant, day, rows written) as they are done.

    All tenants: draws the line first that a restored dump needs, and goes on with a rebuild that was killed, unless
    `resume` is false. Usage can be read and rolled up meanwhile. Raises UsageMoved (one tenant alone is not enough
    then), UsageBusy.
    """
    if tenant_id is not None:
        for tenant, day in _days(tenant_id):
            with _told(), transaction.atomic(), connection.cursor() as cursor:
                rows = store.recount(cursor, tenant, day)
            yield tenant, day, rows
        return
    standing = status()
    if standing.rebuild_began_at is None or not standing.at_home or not resume:
        _begin_rebuild()
    while True:
        with _told(), transaction.atomic(), connection.cursor() as cursor:
            done = store.rebuild_step(cursor)
        if done is None:
            return
        yield done


def prune(*, now: datetime, days: int) -> int:
    """Forgets hours that are older than `days` (at least HOURS_DAYS_MIN); returns how many rows went.

    Hours that others still need (`hours_needed`) are kept, for HOURS_DAYS_MAX at most.
    """
    before = kept_from(now=now, days=days)
    gone = 0
    for _ in range(PRUNE_STEPS_MAX):
        with transaction.atomic(), connection.cursor() as cursor:
            rows = store.prune(cursor, before, PRUNE_ROWS)
        gone += rows
        if rows == 0:
            break
    return gone


def kept_from(*, now: datetime, days: int) -> datetime:
    """Returns the time from which on hours are kept now."""
    kept = now - timedelta(days=max(days, HOURS_DAYS_MIN))
    longest = now - timedelta(days=HOURS_DAYS_MAX)
    for _, at in hours_needed.send(sender=None, now=now):
        if isinstance(at, datetime):
            kept = min(kept, max(at, longest))
    return kept


def _tell(step: Step, now: datetime) -> None:
    try:
        with transaction.atomic():
            alerting.posted(counters=step.counters, presumed=step.presumed, now=now)
    except OperationalError:
        # The database is away or busy: the whole step is done again.
        raise
    except Exception:
        # Usage is what is billed: it does not stop for a defect in telling of it.
        log.exception("alerting failed on %d counters", len(step.counters))


def _begin_rebuild() -> None:
    # Settlements queue behind a lock that is waited for; so it is waited for briefly, and often.
    for _ in range(LOCK_TRIES):
        try:
            with _told(), transaction.atomic(), connection.cursor() as cursor:
                store.begin_rebuild(cursor, LOCK_MS)
            return
        except Error as error:
            if not isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise
    raise UsageBusy(f"the ledger was in use each of {LOCK_TRIES} times")


def _days(tenant_id: UUID | None) -> Iterator[tuple[UUID, date]]:
    with connection.cursor() as cursor:
        tenants = [tenant_id] if tenant_id else store.tenants_with_usage(cursor)
    for tenant in tenants:
        day: date | None = None
        while True:
            with connection.cursor() as cursor:
                day = store.next_day(cursor, tenant, day)
            if day is None:
                break
            yield tenant, day


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Error as error:
        if isinstance(error.__cause__, psycopg.errors.ObjectNotInPrerequisiteState):
            raise UsageMoved(error.__cause__.diag.message_primary or str(error)) from error
        raise
