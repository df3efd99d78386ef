"""What a person may do about a measurement that failed or is unclear: have its amount told anew."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from billing.models import Measurement, MeasurementState, StripeLink
from billing.services import hints
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant


class MeasurementNotFound(Missing):
    """The tenant has no such measurement."""


class InvalidReissue(Invalid):
    """A measurement that cannot be told anew."""


def reissue(*, tenant_id: UUID, measurement_id: UUID, actor: str, now: datetime) -> Measurement:
    """Takes a failed or unclear measurement out of the sum, so that the next freeze tells its amount under a new key.

    Of an unclear one the person has looked at Stripe: if it was counted there after all, it is told twice. Raises
    MeasurementNotFound, InvalidReissue.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = Measurement.objects.select_for_update().filter(tenant_id=tenant_id, pk=measurement_id).first()
        if row is None:
            raise MeasurementNotFound(str(measurement_id))
        if row.state not in (MeasurementState.FAILED, MeasurementState.UNCLEAR):
            raise InvalidReissue([FieldError("state", f"is {row.state}: only failed and unclear ones")])
        before = row.state
        row.state, row.outcome, row.finished_at = MeasurementState.ABANDONED, "reissued", now
        row.save(update_fields=["state", "outcome", "finished_at"])
        StripeLink.objects.filter(tenant_id=tenant_id, customer_id=row.customer_id).update(next_freeze_at=now)
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="measurement.reissue",
            object=ids.encode(ids.MEASUREMENT, row.pk),
            before={"state": before},
            after={"state": row.state, "value_micro": row.value_micro},
            now=now,
        )
        hints.ask_for(hints.PUSH)
    return row
