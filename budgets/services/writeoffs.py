"""Write-offs by operators: stranded authority goes back to its budgets, with a name and a reason on it.

The resolution, its ledger entry, the operator's entry in the tenant's audit log: one transaction. Redis hears of the
headroom by the message that the write-off makes, which a sweep sends within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction

from budgets.queries.bounded import Row, limited
from budgets.queries.epochs import stranded_in
from budgets.services.operations import WRITEOFF_WAIT_SECONDS, WriteoffTooEarly
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.services import audit
from tenants.services.tenants import lock_tenant

ROWS_MAX = 100
"""The most counters that one decision writes off; the next one takes the rest."""

REASON_MAX = 500
READ_MS = 3_000


class InvalidWriteoff(Invalid):
    """A write-off that nobody could later account for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenOff:
    """What one counter got back, in its metric's unit."""

    row: Row
    amount: int


def stranded_rows(*, epoch_id: UUID, counter_id: UUID | None = None) -> list[Row]:
    """What an epoch has stranded, largest first, at most ROWS_MAX. Raises TookTooLong."""
    with limited(milliseconds=READ_MS):
        return stranded_in(epoch_id=epoch_id, counter_id=counter_id, limit=ROWS_MAX)


def write_off(
    *, epoch_id: UUID, counter_id: UUID | None = None, actor: str, reason: str, now: datetime
) -> list[WrittenOff]:
    """Writes off what an epoch has stranded, of one counter or of the ROWS_MAX largest.

    Each counter is a transaction of its own, so what was done before an error stays done. Raises InvalidWriteoff, and
    WriteoffTooEarly while holds of the epoch may still be settled.
    """
    reason = reason.strip()
    errors = []
    if not 1 <= len(reason) <= REASON_MAX or not reason.isprintable():
        errors.append(FieldError("reason", f"must be 1 to {REASON_MAX} printable characters on one line"))
    if not actor:
        errors.append(FieldError("actor", "must name who decides it"))
    if errors:
        raise InvalidWriteoff(errors)
    return [
        _one(row, actor=actor, reason=reason, now=now)
        for row in stranded_rows(epoch_id=epoch_id, counter_id=counter_id)
    ]


def _one(row: Row, *, actor: str, reason: str, now: datetime) -> WrittenOff:
    hold_id = ids.new_uuid(now)
    try:
        with transaction.atomic():
            lock_tenant(tenant_id=row["tenant_id"])
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT (nb_writeoff(%s, %s, %s, %s, %s, make_interval(secs => %s), %s, %s) ->> 'amount')::bigint",
                    [
                        row["tenant_id"],
                        row["counter_id"],
                        row["epoch_id"],
                        row["incarnation"],
                        hold_id,
                        WRITEOFF_WAIT_SECONDS,
                        actor,
                        reason,
                    ],
                )
                (amount,) = cursor.fetchone() or (0,)
            if amount:
                audit.record(
                    tenant_id=row["tenant_id"],
                    actor=actor,
                    action="counter.write_off",
                    object=ids.encode(ids.BUDGET, row["budget_id"]),
                    before={"stranded": amount, "metric": row["metric"]},
                    after={
                        "stranded": 0,
                        "reason": reason,
                        "counter": str(row["counter_id"]),
                        "subject": row["subject"],
                        "epoch": str(row["epoch_id"]),
                        "hold": ids.encode(ids.HOLD, hold_id),
                    },
                    now=now,
                )
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.ObjectNotInPrerequisiteState):
            raise WriteoffTooEarly(error.__cause__.diag.message_primary or str(error)) from error
        raise
    return WrittenOff(row=row, amount=amount)
