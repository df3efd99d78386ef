"""What a tenant's move to another time zone means for its budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F

from budgets.domain.policy import WindowKind
from budgets.models import Budget

ZONED = (WindowKind.HOUR, WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH, WindowKind.QUARTER)


def on_time_zone_changed(*, tenant_id: UUID, now: datetime, **_: Any) -> None:
    """Has budgets that follow the tenant's zone begin their new windows with what the ledger holds for them.

    Their counters are new ones from here on, since a window's ends are part of a counter's id; without this
    each would begin at nothing, and a limit could be spent twice in the days of the move.
    """
    Budget.objects.filter(
        tenant_id=tenant_id,
        archived_at__isnull=True,
        time_zone__isnull=True,
        window__in=[kind.value for kind in ZONED],
    ).update(effective_at=now, version=F("version") + 1)
