"""A run that a person stops: from a page, on connections of its own."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from django.conf import settings

from budgets.domain.runs import RunState
from budgets.services.epochs import CountersUnavailable
from budgets.services.runs import Closed, Runs
from budgets.stores.postgres.money import StorageUnavailable
from noburn.kit.problems import Missing, ProblemError, problem

SECONDS_MAX: Final = 10
REASON_CHARS_MAX: Final = 200


def stop_run(*, tenant_id: UUID, run: str, reason: str, actor: str) -> Closed:
    """Stops a run and all below it; once this returns, no call of theirs is let through. One that is over stays as it is.

    Raises Missing, and a counters-unavailable problem where Redis could not be told: PostgreSQL may have the stop then,
    and a repeat tells Redis again.
    """

    async def work() -> Closed | None:
        urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_URL}
        async with asyncio.timeout(SECONDS_MAX), Runs.connected(**urls) as runs:
            return await runs.close(
                tenant_id, run, state=RunState.STOPPED.value, reason=reason[:REASON_CHARS_MAX], by=actor
            )

    try:
        closed = asyncio.run(work())
    except (CountersUnavailable, StorageUnavailable, TimeoutError) as gone:
        detail = "The stop could not be told to every gateway; stop it again in a moment."
        raise ProblemError(problem("counters-unavailable", detail)) from gone
    if closed is None:
        raise Missing(run)
    return closed
