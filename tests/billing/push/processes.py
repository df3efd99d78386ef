"""Workers of this test's noburn in processes of their own: ones that kill themselves at a step, and Celery's."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.db import connections

from billing.models import StripeAccount
from billing.services import (
    credit_notes,
    freezing,
    plan_reports,
    pushing,
    quiet,
    sending,
    stripe_inbox,
    stripe_links,
    stripe_setup,
)
from billing.stripe import client
from tests.support import processes

ROOT = Path(__file__).resolve().parents[3]
ROUNDS_MAX = 100
KILLABLE = (
    credit_notes, freezing, plan_reports, pushing, quiet, sending, stripe_inbox, stripe_links, stripe_setup,
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """What a process needs to be a worker of this test's noburn, with the double for Stripe."""
    return processes.environment(STRIPE_API_BASE=settings.STRIPE_API_BASE, LOG_LEVEL="ERROR", **more)


class Worked(Protocol):
    """Whose work it is, and the time that its workers are told."""

    @property
    def tenant_id(self) -> UUID: ...

    now: datetime


def dies(till: Worked, work: str, step: str, times: int = 1) -> None:
    """A worker does some work and kills itself when it comes to a step for the n-th time, which it does."""
    assert killed(till, work, step, times), step


def killed(till: Worked, work: str, step: str, times: int = 1) -> bool:
    """As `dies`, where there may be nothing to do: whether the worker came to the step."""
    StripeAccount.objects.filter(tenant_id=till.tenant_id).update(bucket_tokens=1_000)
    child = os.fork()
    if child == 0:
        try:
            _work_and_die(till, work, step, times)
            os._exit(0)  # It never came to the step.
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), (step, status)
    return os.WIFSIGNALED(status)


def _work_and_die(till: Worked, work: str, step: str, times: int) -> None:
    # What is open is the parent's: held, so that nothing closes it, and not used.
    _held = (connections["default"].connection, client._session(), client._transport())
    connections["default"].connection = None
    client._session.cache_clear()
    client._transport.cache_clear()
    left, now = times, till.now

    def reached(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in KILLABLE:
        module.reached = reached  # type: ignore[attr-defined]
    works = {
        "freeze": lambda: freezing.freeze_due(now=now),
        "push": lambda: pushing.push_batch(now=now),
        "set_up": lambda: stripe_setup.set_up_due(now=now) + stripe_links.link_due(now=now),
        "plans": lambda: plan_reports.freeze_due(now=now) + plan_reports.push_due(now=now),
        "events": lambda: stripe_inbox.handle_batch(now=now),
    }
    for _ in range(ROUNDS_MAX):
        if not works[work]():
            return
