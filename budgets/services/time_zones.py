"""What a tenant's move to another time zone means for its budgets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, F, Func

from budgets.domain.policy import WindowKind
from budgets.models import Budget

ZONED = (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH, WindowKind.QUARTER)

# Compared with the times at which counters were made, which are the database's.
_DATABASE_CLOCK = Func(function="clock_timestamp", output_field=DateTimeField())


def on_time_zone_changed(*, tenant_id: UUID, **_: Any) -> None:
    """Has budgets that follow the tenant's zone begin their windows with what the ledger holds for them.

    Their counters are other ones from here on, since a window's ends are part of a counter's id; without this
    each would begin at nothing, or where it stood when the zone was this one before, and a limit could be spent
    twice in the days of the move.
    """
    Budget.objects.filter(
        tenant_id=tenant_id,
        archived_at__isnull=True,
        time_zone__isnull=True,
        window__in=[kind.value for kind in ZONED],
    ).update(effective_at=_DATABASE_CLOCK, version=F("version") + 1)
