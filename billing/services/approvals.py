"""Lets presumed spending be billed, by a person who says why; docs/billing.md.

A call that nobody settled is presumed to have cost what its hold was for. It is billed once somebody approves it, and
until it is settled or voided after all: then the sums say what it cost, and the charge is corrected by the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction

from billing.models import PresumedApproval
from billing.queries.approvals import Presumed, still_presumed
from billing.queries.uses import bounded
from budgets.queries.bounded import TookTooLong
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.services import audit
from tenants.services.tenants import lock_tenant

HOLDS_MAX: Final = 1_000
"""The most calls that one approval lets be billed; ask again for more."""

REASON_CHARS_MAX: Final = 500
MILLISECONDS: Final = 5_000


class InvalidApproval(Invalid):
    """An approval that breaks rules, or finds nothing that it could approve."""


@dataclass(frozen=True, kw_only=True)
class Approved:
    """What was approved; `more`: there are others of the same customer and time."""

    approvals: Sequence[PresumedApproval]
    more: bool

    @property
    def cost_nano(self) -> int:
        """What the approved calls cost."""
        return sum(row.cost_nano for row in self.approvals)


def approve_presumed(*, wanted: Presumed, reason: str, actor: str, now: datetime) -> Approved:
    """Lets presumed calls be billed: those of one hold, or up to 1,000 of a customer's in a time.

    Each is in the audit log by its hold. A call that is approved already, or is no longer presumed, is left alone.
    Raises TenantNotFound, InvalidApproval with every error.
    """
    errors = []
    if not 1 <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable() or not reason.strip():
        errors.append(FieldError("reason", f"must be 1 to {REASON_CHARS_MAX} printable characters"))
    times = (wanted.since, wanted.until)
    if wanted.hold_id is None:
        if not wanted.customer:
            errors.append(FieldError("customer", "say a hold, or a customer with starts_at and ends_at"))
        if None in times:
            errors.append(FieldError("starts_at", "say from when to when calls were placed"))
    elif wanted.customer or times != (None, None):
        errors.append(FieldError("hold", "say either a hold, or a customer with starts_at and ends_at"))
    if wanted.since is not None and wanted.until is not None and wanted.until <= wanted.since:
        errors.append(FieldError("ends_at", "must be later than starts_at"))
    if errors:
        raise InvalidApproval(errors)
    with transaction.atomic():
        lock_tenant(tenant_id=wanted.tenant_id)
        try:
            with bounded(MILLISECONDS):
                found = still_presumed(wanted, limit=HOLDS_MAX + 1)
        except TookTooLong as slow:
            raise InvalidApproval([FieldError("starts_at", f"{slow}: ask for less time")]) from slow
        field = "customer" if wanted.hold_id is None else "hold"
        if not found:
            raise InvalidApproval([FieldError(field, "has no presumed call that waits for approval")])
        if any(not row["customer"] for row in found):
            raise InvalidApproval([FieldError(field, "names no customer, so nobody can be billed for it")])
        made = PresumedApproval.objects.bulk_create(
            PresumedApproval(
                id=ids.new_uuid(now),
                tenant_id=wanted.tenant_id,
                **row,
                reason=reason,
                approved_by=actor,
                approved_at=now,
            )
            for row in found[:HOLDS_MAX]
        )
        audit.record_many(
            tenant_id=wanted.tenant_id,
            actor=actor,
            changes=[
                audit.Change(
                    action="presumed.approve",
                    object=ids.encode(ids.HOLD, row.hold_id),
                    after={"customer": row.customer, "cost_nano": row.cost_nano, "reason": reason},
                )
                for row in made
            ],
            now=now,
        )
    return Approved(approvals=made, more=len(found) > HOLDS_MAX)
