"""Celery's part of the money path: sweeping, cleaning up, partitions. Tasks are hints; the databases are the truth."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from celery import shared_task
from django.conf import settings
from django.db import OperationalError

from budgets.services import alerting, figures, guard_alerts, increases, learning, metering, reratings
from budgets.services.epochs import CountersUnavailable
from budgets.services.operations import Operations, RedisUnavailable, StorageUnavailable
from budgets.services.retention import Retention
from budgets.services.runs import Runs
from noburn.kit.clock import utc_now

log = logging.getLogger(__name__)

PARTITION_MONTHS_AHEAD = 4

CHECK_SECONDS = 30.0
"""How long one round of the checker looks; the next one goes on where it stopped."""

WORK_SECONDS_MAX = 100
"""When work gives up by itself; at its time limit a task would take its worker with it."""

LEARNING_SECONDS = 60.0
"""How long one round of learning goes on; the next begins with those that it left out."""

RERATING_SECONDS = 60.0
"""How long one run goes on with re-ratings; the next begins where it stopped."""

T = TypeVar("T")


def _run(work: Callable[[Operations], Awaitable[T]]) -> T | None:
    """Runs work on connections of its own; None if a server is away, since the next beat finds what this one left."""

    async def connected() -> T:
        urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_URL}
        async with asyncio.timeout(WORK_SECONDS_MAX), Operations.connected(**urls) as operations:
            return await work(operations)

    try:
        return asyncio.run(connected())
    except (StorageUnavailable, RedisUnavailable, TimeoutError) as error:
        log.warning("work did not finish: %s", str(error) or f"not done in {WORK_SECONDS_MAX} s")
        return None


@shared_task(name="budgets.sweep", ignore_result=True)
def sweep() -> None:
    """Presumes expired holds, sends load messages again, retires ended counters."""
    done = _run(Operations.sweep)
    if done is not None and (done.presumed or done.resent or done.retired):
        log.info("sweep: %s", done)


@shared_task(name="budgets.clean_up", ignore_result=True)
def clean_up() -> None:
    """Removes what closed epochs left in Redis."""
    _run(Operations.clean_up)


@shared_task(name="budgets.release", ignore_result=True)
def release() -> None:
    """Frees what budgets with `on_epoch_close: release` have stranded, once its time has come."""
    released = _run(Operations.release)
    if released:
        log.warning("%d counters got stranded authority back by timer (soft mode)", released)


@shared_task(name="budgets.make_partitions", ignore_result=True)
def make_partitions() -> None:
    """Makes the partitions of the coming months, and of the coming days for decisions."""
    _run(lambda operations: operations.make_partitions(PARTITION_MONTHS_AHEAD))
    _retain(lambda retention: retention.make_days(now=utc_now()))


def _retain(work: Callable[[Retention], Awaitable[T]]) -> T | None:
    """As `_run`, for what needs PostgreSQL alone."""

    async def connected() -> T:
        async with Retention.connected(database_url=settings.DATABASE_URL) as retention:
            return await work(retention)

    try:
        return asyncio.run(connected())
    except StorageUnavailable as error:
        log.warning("work did not finish: %s", error)
        return None


@shared_task(name="budgets.prune_decisions", ignore_result=True)
def prune_decisions() -> None:
    """Removes decisions that their tenants keep no longer."""
    pruned = _retain(lambda retention: retention.prune_decisions(now=utc_now()))
    if pruned is not None and (pruned.days or pruned.decisions):
        log.info("decisions: %s", pruned)


@shared_task(name="budgets.prune_counters", ignore_result=True)
def prune_counters() -> None:
    """Removes the settled counters of hours that are long over."""
    pruned = _retain(
        lambda retention: retention.prune_counters(now=utc_now(), days=settings.COUNTER_RETENTION_DAYS)
    )
    if pruned:
        log.info("%d counters of hours long over were removed", pruned)


@shared_task(name="budgets.turn_increases", ignore_result=True)
def turn_increases() -> None:
    """Tells counters of increases that have started or ended."""
    try:
        turned = increases.turn_increases(now=utc_now())
    except OperationalError as error:
        log.warning("increases were not turned: %s", error)
        return
    if turned.started or turned.ended:
        log.info("increases: %s", turned)


@shared_task(name="budgets.verify", ignore_result=True)
def verify() -> None:
    """One round of the checker; tells operators of figures that are not what their sources say."""
    found = _run(lambda operations: operations.check(seconds=CHECK_SECONDS))
    if found is None or found.busy:
        return
    if found.moved:
        log.warning(
            "changes are not checked: this database was restored from a dump (manage.py usage rebuild)"
        )
    if found.differences:
        log.error("%d figures differ from their sources: %s", len(found.differences), found.differences[0])
        alerting.drift(found=found.differences, now=utc_now())


@shared_task(name="budgets.watch_epochs", ignore_result=True)
def watch_epochs() -> None:
    """Tells of epochs that Redis lost."""
    try:
        alerting.epochs_lost(now=utc_now())
    except OperationalError as error:
        log.warning("epochs were not watched: %s", error)


@shared_task(name="budgets.metering.roll", ignore_result=True)
def roll_usage() -> None:
    """Rolls up what the ledger has got, and tells alerting of it. A second worker leaves at once."""
    try:
        rolled = metering.roll(now=utc_now())
    except (OperationalError, metering.UsageMoved) as error:
        log.warning("usage was not rolled up: %s", error)
        return
    if rolled.more:
        log.info("usage: %s", rolled)


@shared_task(name="budgets.metering.prune", ignore_result=True)
def prune_usage() -> None:
    """Forgets hours of usage that are older than the installation keeps; days stay."""
    gone = metering.prune(now=utc_now(), days=settings.USAGE_HOURS_DAYS)
    if gone:
        log.info("%d rows of old hours of usage were forgotten", gone)


@shared_task(name="budgets.metering.learn", ignore_result=True)
def learn() -> None:
    """Learns from settled calls for tenants whose budgets go by it, those that waited longest first."""
    until = time.monotonic() + LEARNING_SECONDS
    try:
        for tenant_id in learning.learning_tenants():
            lesson = learning.learn_tenant(tenant_id=tenant_id, now=utc_now())
            if lesson is None or lesson.published:
                log.info("learned of %s: %s", tenant_id, lesson)
            if time.monotonic() > until:
                break
    except OperationalError as error:
        log.warning("nothing more was learned: %s", error)


@shared_task(name="budgets.metering.rerate", ignore_result=True)
def rerate() -> None:
    """Goes on with previews and applications of re-ratings. Two workers share them, call by call."""
    try:
        done = reratings.work(now=utc_now(), seconds=RERATING_SECONDS)
    except OperationalError as error:
        log.warning("re-ratings wait: %s", error)
        return
    if done.seen or done.applied:
        log.info("re-ratings: %s", done)


@shared_task(name="budgets.prune_reratings", ignore_result=True)
def prune_reratings() -> None:
    """Expires previews that nobody applied, and forgets the calls of re-ratings that are long over."""
    gone = reratings.prune(now=utc_now())
    if gone:
        log.info("%d calls of re-ratings that are over were forgotten", gone)


@shared_task(name="budgets.end_runs", ignore_result=True)
def end_runs() -> None:
    """Ends runs that nobody calls in any more, and those past their seconds."""

    async def work() -> int:
        urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_URL}
        async with asyncio.timeout(WORK_SECONDS_MAX), Runs.connected(**urls) as runs:
            return await runs.close_due()

    try:
        ended = asyncio.run(work())
    except (StorageUnavailable, CountersUnavailable, TimeoutError) as error:
        log.warning("idle runs were not ended: %s", str(error) or f"not done in {WORK_SECONDS_MAX} s")
        return
    if ended:
        log.info("%d runs were ended, since nobody called in them or their time was over", ended)


@shared_task(name="budgets.tell_guards", ignore_result=True)
def tell_guards() -> None:
    """Tells tenants of guards that tripped."""
    try:
        guard_alerts.tell(now=utc_now())
    except OperationalError as error:
        log.warning("guards that tripped were not told of: %s", error)


@shared_task(name=figures.TASK, ignore_result=True)
def add_up_figures() -> None:
    """Adds up figures of the dashboard that take too long for a page, as somebody asked."""
    try:
        figures.add_up(now=utc_now)
    except OperationalError as error:
        log.warning("figures wait: %s", error)


BEAT = {
    # A sweep that waited in the queue for its whole period is worth nothing any more.
    "budgets.sweep": {"task": "budgets.sweep", "schedule": 2.0, "options": {"expires": 4}},
    "budgets.turn_increases": {"task": "budgets.turn_increases", "schedule": 5.0, "options": {"expires": 10}},
    "budgets.verify": {"task": "budgets.verify", "schedule": 60.0, "options": {"expires": 60}},
    "budgets.watch_epochs": {"task": "budgets.watch_epochs", "schedule": 15.0, "options": {"expires": 30}},
    "budgets.metering.roll": {"task": "budgets.metering.roll", "schedule": 2.0, "options": {"expires": 4}},
    "budgets.metering.rerate": {
        "task": "budgets.metering.rerate",
        "schedule": 5.0,
        "options": {"expires": 10},
    },
    "budgets.metering.learn": {
        "task": "budgets.metering.learn",
        "schedule": 600.0,
        "options": {"expires": 600},
    },
    "budgets.end_runs": {"task": "budgets.end_runs", "schedule": 30.0, "options": {"expires": 30}},
    "budgets.tell_guards": {"task": "budgets.tell_guards", "schedule": 15.0, "options": {"expires": 30}},
    # Asked for by those who look; this finds what a lost hint leaves.
    figures.TASK: {"task": figures.TASK, "schedule": 30.0, "options": {"expires": 30}},
    "budgets.clean_up": {"task": "budgets.clean_up", "schedule": 60.0, "options": {"expires": 60}},
    "budgets.release": {"task": "budgets.release", "schedule": 60.0, "options": {"expires": 60}},
    # More than daily: beat counts from its own start, and one that is restarted each day would never come to its end.
    "budgets.make_partitions": {"task": "budgets.make_partitions", "schedule": 10_800.0},
    "budgets.metering.prune": {"task": "budgets.metering.prune", "schedule": 10_800.0},
    "budgets.prune_decisions": {"task": "budgets.prune_decisions", "schedule": 10_800.0},
    "budgets.prune_counters": {"task": "budgets.prune_counters", "schedule": 10_800.0},
    "budgets.prune_reratings": {"task": "budgets.prune_reratings", "schedule": 10_800.0},
}
