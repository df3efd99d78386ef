"""Idempotent POSTs: what was answered once is answered again, in the transaction and under the lock of the change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from noburn.kit import ids
from noburn.kit.problems import ProblemError, problem
from tenants.models import IdempotentAnswer

KEPT = timedelta(hours=48)
"""For how long an answer is kept; a repeat after that is a new request."""

PRUNE_BATCH = 1_000
PRUNE_ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer as it was given."""

    status: int
    body: Any
    headers: Mapping[str, str]


def digest_of(*, method: str, path: str, actor: str, body: bytes) -> bytes:
    """What makes two requests the same: method, path, who asks, and the body's bytes."""
    parts = (method.encode(), path.encode(), actor.encode(), body)
    told = hashlib.blake2b(digest_size=32)
    for part in parts:
        told.update(len(part).to_bytes(8, "big") + part)
    return told.digest()


def earlier_answer(*, tenant_id: UUID, key: str, digest: bytes, now: datetime) -> Answered | None:
    """Returns what this key was answered before, if anything. Call it under the tenant's lock.

    Raises an idempotency-conflict problem when the key came with another request.
    """
    kept = IdempotentAnswer.objects.filter(tenant_id=tenant_id, key=key).first()
    if kept is None:
        return None
    if kept.created_at < now - KEPT:
        kept.delete()
        return None
    if bytes(kept.digest) != digest:
        raise ProblemError(
            problem(
                "idempotency-conflict",
                "This Idempotency-Key was used for another request; nothing was changed.",
            )
        )
    return Answered(status=kept.status, body=kept.body, headers=kept.headers)


def keep_answer(*, tenant_id: UUID, key: str, digest: bytes, answer: Answered, now: datetime) -> None:
    """Keeps an answer, in the transaction of the change that it tells of."""
    IdempotentAnswer.objects.create(
        id=ids.new_uuid(now),
        tenant_id=tenant_id,
        key=key,
        digest=digest,
        status=answer.status,
        body=answer.body,
        headers=dict(answer.headers),
        created_at=now,
    )


def prune_answers(*, now: datetime) -> int:
    """Deletes answers that are no longer kept, in small transactions; returns how many."""
    removed = 0
    for _ in range(PRUNE_ROUNDS):
        with transaction.atomic():
            old = IdempotentAnswer.objects.filter(created_at__lt=now - KEPT).order_by("created_at", "pk")
            found = list(old.select_for_update(skip_locked=True).values_list("pk", flat=True)[:PRUNE_BATCH])
            IdempotentAnswer.objects.filter(pk__in=found).delete()
        removed += len(found)
        if len(found) < PRUNE_BATCH:
            break
    return removed
