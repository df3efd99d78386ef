"""Celery's part of billing. Tasks are hints: what is due stands in PostgreSQL, and a sweep finds it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import shared_task
from django.db import OperationalError

from billing.services import (
    burning,
    credit_notes,
    freezing,
    hints,
    payments,
    plan_reports,
    plans,
    pushing,
    reconciling,
    stripe_inbox,
    stripe_links,
    stripe_setup,
    true_ups,
    wallet_charges,
)
from noburn.kit.clock import utc_now

log = logging.getLogger(__name__)

WORK_SECONDS_MAX = 30.0
ROUNDS_MAX = 1_000
SWEEP_SECONDS = 10.0

_at_work = {name: threading.Lock() for name in (*hints.STRIPE, *hints.WALLETS, hints.PLANS)}
"""One thread of a process for each: the others are for alerts, however slow Stripe is."""


def _until_done(name: str, step: Callable[[], int]) -> None:
    """Repeats a step until it finds nothing, or for half a minute; the next sweep goes on."""
    if not _at_work[name].acquire(blocking=False):
        return
    try:
        ends_at = time.monotonic() + WORK_SECONDS_MAX
        for _ in range(ROUNDS_MAX):
            if not step() or time.monotonic() > ends_at:
                return
    except OperationalError as error:
        log.warning("%s did not finish: %s", name, type(error).__name__)
    finally:
        _at_work[name].release()


@shared_task(name=hints.SET_UP, ignore_result=True)
def set_up() -> None:
    """Sets up accounts, makes links and issues credit notes that wait."""
    _until_done(
        hints.SET_UP,
        lambda: (
            stripe_setup.set_up_due(now=utc_now())
            + stripe_links.link_due(now=utc_now())
            + credit_notes.issue_due(now=utc_now())
        ),
    )


@shared_task(name=hints.PUSH, ignore_result=True)
def push() -> None:
    """Freezes what is closed and sends what is due."""
    _until_done(hints.PUSH, lambda: freezing.freeze_due(now=utc_now()) + pushing.push_batch(now=utc_now()))


@shared_task(name=hints.EVENTS, ignore_result=True)
def handle_events() -> None:
    """Handles events that wait in the inbox."""
    _until_done(hints.EVENTS, lambda: stripe_inbox.handle_batch(now=utc_now(), batch=1))


@shared_task(name=hints.RECONCILE, ignore_result=True)
def reconcile() -> None:
    """Compares customers with Stripe that have not been compared for most of a day."""

    def step() -> int:
        try:
            return reconciling.reconcile_due(now=utc_now())
        except OperationalError:
            raise
        except Exception:
            # It was taken off the list for today: one that cannot be compared must not keep the others from being.
            log.exception("a customer could not be reconciled")
            return 1

    _until_done(hints.RECONCILE, step)


@shared_task(name=hints.BURN, ignore_result=True)
def burn() -> None:
    """Burns what settled calls have used of wallets."""

    def step() -> int:
        done = burning.burn(now=utc_now(), seconds=WORK_SECONDS_MAX)
        if done.moved:
            log.warning(
                "wallets are not burnt: this database was restored from a dump (manage.py usage rebuild)"
            )
        # One that failed is left to the next sweep.
        return 0 if done.failed else done.entries

    _until_done(hints.BURN, step)


@shared_task(name=hints.TRUE_UP, ignore_result=True)
def true_up() -> None:
    """Puts back what wallets were charged beyond their customers' charges for periods."""
    _until_done(hints.TRUE_UP, lambda: true_ups.true_up_due(now=utc_now()))


@shared_task(name=hints.TOP_UP, ignore_result=True)
def top_up() -> None:
    """Tops wallets up that ran low, and pays back what was voided."""
    _until_done(
        hints.TOP_UP,
        lambda: (
            payments.begin_automatic(now=utc_now())
            + payments.charge_due(now=utc_now())
            + payments.look_after(now=utc_now())
            + payments.refund_due(now=utc_now())
        ),
    )


@shared_task(name=hints.PLANS, ignore_result=True)
def count_plans() -> None:
    """Counts requests by noburn's own plans, and tells the platform's Stripe of those that are paid for."""
    if not plans.plans_are_on():
        return
    _until_done(
        hints.PLANS,
        lambda: (
            plans.count_due(now=utc_now())
            + plan_reports.freeze_due(now=utc_now())
            + plan_reports.push_due(now=utc_now())
        ),
    )


@shared_task(name="billing.lapse", ignore_result=True)
def lapse() -> None:
    """Ends credit that ended an hour ago."""
    try:
        ended = burning.lapse_all(now=utc_now())
    except OperationalError as error:
        log.warning("credit was not ended: %s", type(error).__name__)
        return
    if ended:
        log.info("%d grants of credit have lapsed", ended)


@shared_task(name="billing.charges", ignore_result=True)
def charges() -> None:
    """Writes the most that customers with wallets are charged into the policies, as cards begin and end."""
    try:
        for tenant_id in wallet_charges.tenants_with_wallets():
            wallet_charges.write_charges(tenant_id=tenant_id, now=utc_now())
    except OperationalError as error:
        log.warning("charges were not written: %s", type(error).__name__)


@shared_task(name="billing.warn", ignore_result=True)
def warn() -> None:
    """Warns tenants of use that waits for too long."""
    for account in reconciling.accounts():
        reconciling.warn_of_waiting(account=account, now=utc_now())


@shared_task(name="billing.prune", ignore_result=True)
def prune() -> None:
    """Deletes events that are older than they are kept."""
    removed = stripe_inbox.prune(now=utc_now())
    if removed:
        log.info("pruned %d events", removed)


BEAT: dict[str, dict[str, Any]] = {
    # A sweep that waited in the queue for its whole period is worth nothing any more.
    name: {"task": name, "schedule": SWEEP_SECONDS, "options": {"expires": 20}}
    for name in (hints.SET_UP, hints.PUSH, hints.EVENTS, hints.PLANS)
} | {
    hints.RECONCILE: {"task": hints.RECONCILE, "schedule": 60.0, "options": {"expires": 60}},
    hints.BURN: {"task": hints.BURN, "schedule": 3.0, "options": {"expires": 6}},
    hints.TRUE_UP: {"task": hints.TRUE_UP, "schedule": SWEEP_SECONDS, "options": {"expires": 20}},
    hints.TOP_UP: {"task": hints.TOP_UP, "schedule": SWEEP_SECONDS, "options": {"expires": 20}},
    "billing.lapse": {"task": "billing.lapse", "schedule": 60.0, "options": {"expires": 60}},
    "billing.charges": {"task": "billing.charges", "schedule": 15.0, "options": {"expires": 15}},
    "billing.warn": {"task": "billing.warn", "schedule": 3_600.0, "options": {"expires": 3_600}},
    "billing.prune": {"task": "billing.prune", "schedule": 3_600.0, "options": {"expires": 3_600}},
}
