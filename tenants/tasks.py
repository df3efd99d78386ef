"""Celery's part of tenancy: what is kept for a while only."""

from __future__ import annotations

from celery import shared_task

from noburn.kit.clock import utc_now
from tenants.services.idempotency import prune_answers


@shared_task(name="tenants.prune_answers", ignore_result=True)
def prune_idempotent_answers() -> None:
    """Deletes answers to POSTs that no repeat is answered from any more."""
    prune_answers(now=utc_now())


BEAT = {
    "tenants.prune_answers": {
        "task": "tenants.prune_answers",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}
