"""Tells the workers that something of billing waits. A hint that is lost costs the time until the next sweep."""

from __future__ import annotations

from django.db import transaction

from noburn.kit.jobs import hint

QUEUE = "billing"
HINT_SECONDS = 30

SET_UP = "billing.set_up"
PUSH = "billing.push"
EVENTS = "billing.handle_events"
RECONCILE = "billing.reconcile"
BURN = "billing.burn"
TOP_UP = "billing.top_up"
TRUE_UP = "billing.true_up"

STRIPE = (SET_UP, PUSH, EVENTS, RECONCILE)
WALLETS = (BURN, TOP_UP, TRUE_UP)
PLANS = "billing.plans"


def ask_for(task: str) -> None:
    """Asks for a run of a task soon, once the present transaction is committed."""
    transaction.on_commit(lambda: _hint(task), robust=True)


def _hint(task: str) -> None:
    hint(task, queue=QUEUE, expires_seconds=HINT_SECONDS)
