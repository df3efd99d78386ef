"""Rows that are due and nobody's: taken for a while, so that a worker that dies leaves them to the next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeVar

from django.db import models, transaction

R = TypeVar("R", bound=models.Model)


def take(rows: models.QuerySet[R], *, now: datetime, lease: timedelta) -> R | None:
    """Takes the row that has been due for longest, as a try that is nobody else's for `lease`; None if none is due.

    Rows that others are taking are passed over. The row's `next_attempt_at` and `tries` are written before this returns.
    """
    with transaction.atomic():
        due = rows.select_for_update(skip_locked=True).filter(next_attempt_at__lte=now)
        row = due.order_by("next_attempt_at", "pk").first()
        if row is not None:
            row.next_attempt_at = now + lease  # type: ignore[attr-defined]
            row.tries += 1  # type: ignore[attr-defined]
            row.save(update_fields=["next_attempt_at", "tries"])
    return row
