"""Celery's part of alerts. Tasks are hints: what is due stands in PostgreSQL, and a sweep finds it."""

from __future__ import annotations

import logging
import threading
import time

from celery import shared_task
from django.db import OperationalError

from alerts.services import deliveries
from alerts.services.hints import TASK
from noburn.kit.clock import utc_now

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0
WORK_SECONDS_MAX = 30.0
BATCHES_MAX = 1_000
AT_ONCE = 2
"""The most of a process's threads that deliver: the others are for the money, however slow webhooks are."""

_delivering = threading.BoundedSemaphore(AT_ONCE)


@shared_task(name=TASK, ignore_result=True)
def deliver() -> None:
    """Makes due deliveries until none is left, or for half a minute; the next sweep goes on."""
    if not _delivering.acquire(blocking=False):
        return  # Those that are at it go on until nothing is due.
    try:
        _deliver_all()
    finally:
        _delivering.release()


def _deliver_all() -> None:
    ends_at = time.monotonic() + WORK_SECONDS_MAX
    taken = 0
    try:
        for _ in range(BATCHES_MAX):
            done = deliveries.deliver_batch(now=utc_now())
            taken += done
            if not done or time.monotonic() > ends_at:
                break
    except OperationalError as error:
        log.warning("deliveries did not finish: %s", type(error).__name__)
    if taken:
        log.info("%d deliveries were tried", taken)


@shared_task(name="alerts.prune", ignore_result=True)
def prune() -> None:
    """Deletes what is older than it is kept."""
    removed = deliveries.prune(now=utc_now())
    if removed:
        log.info("pruned %d rows of alerts", removed)


BEAT = {
    # A sweep that waited in the queue for its whole period is worth nothing any more.
    TASK: {"task": TASK, "schedule": SWEEP_SECONDS, "options": {"expires": 10}},
    "alerts.prune": {"task": "alerts.prune", "schedule": 3_600.0, "options": {"expires": 3_600}},
}
