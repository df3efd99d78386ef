"""Celery's part of tenancy: what is kept for a while only, and the audit log's checkpoints."""

from __future__ import annotations

from celery import shared_task

from noburn.kit.clock import utc_now
from tenants.services.audit_chain import make_checkpoints
from tenants.services.idempotency import prune_answers


@shared_task(name="tenants.prune_answers", ignore_result=True)
def prune_idempotent_answers() -> None:
    """Deletes answers to POSTs that no repeat is answered from any more."""
    prune_answers(now=utc_now())


@shared_task(name="tenants.sign_audit", ignore_result=True)
def sign_audit_log() -> None:
    """Verifies what is new of the audit log, and signs it."""
    make_checkpoints(now=utc_now())


BEAT = {
    "tenants.prune_answers": {
        "task": "tenants.prune_answers",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "tenants.sign_audit": {
        "task": "tenants.sign_audit",
        "schedule": 300.0,
        "options": {"expires": 300},
    },
}
