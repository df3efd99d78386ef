"""Tells tenants of guards that tripped, from the log of decisions: once an hour for a guard and its subject."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.db import transaction

from alerts.services.alerts import ALERTS_MAX, NewAlert, raise_alerts
from budgets.models import Guard
from budgets.queries.guards import guards_tripped
from noburn.kit import ids

LOOK_BACK = timedelta(minutes=10)
"""How far back each round looks: a round that did not run is made good by the next ones."""


def _digest(text: str) -> str:
    """A name of any length as part of a key."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def tell(*, now: datetime) -> int:
    """Raises the alerts of guards that tripped lately; returns how many are new."""
    with transaction.atomic():
        found = guards_tripped(since=now - LOOK_BACK, limit=ALERTS_MAX)
        names = dict(
            Guard.objects.filter(pk__in={row["guard_id"] for row in found}).values_list("pk", "name")
        )
        alerts = []
        for row in found:
            guard = ids.encode(ids.GUARD, row["guard_id"])
            whose = row["whose"] or "tenant"
            alerts.append(
                NewAlert(
                    tenant_id=row["tenant_id"],
                    kind="guard_tripped",
                    dedupe_key=f"guard:{row['guard_id']}:{_digest(whose)}:{now:%Y-%m-%dT%H}",
                    subject=guard,
                    details={
                        "guard": guard,
                        "guard_name": names.get(row["guard_id"], ""),
                        "guard_subject": whose,
                        "reason": row["reason"] or "observed",
                        "calls": str(row["calls"]),
                        "stopped": "yes" if row["reason"] else "no: this guard observes",
                    },
                )
            )
        alerts.sort(key=lambda alert: (str(alert.tenant_id), alert.dedupe_key))
        return raise_alerts(alerts=alerts, now=now) if alerts else 0
