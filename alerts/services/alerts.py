"""Raises alerts: what happened is written in the transaction that found it out, once for a key, with its deliveries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from alerts.domain.kinds import ALWAYS, kind_of
from alerts.services import hints, operators
from alerts.stores import alerts as store
from noburn.kit import ids

KEEP = timedelta(days=400)
"""How long an alert is kept, unless its raiser wants it kept longer."""

ALERTS_MAX = 10_000
DETAILS_BYTES_MAX = 8_000


class BadAlert(ValueError):
    """An alert that its raiser made wrongly: a fault of the program, not of somebody's input."""


@dataclass(frozen=True, kw_only=True)
class NewAlert:
    """Something that happened.

    `tenant_id` None: it concerns the installation, and only operators hear of it. `dedupe_key` (up to 200
    characters, a tenant's own) tells it from others: the same key is never told twice. `subject` is a wire id or a
    name of what it is about. `details` is JSON without content of calls, amounts as decimal strings; the kind's
    text is made from it (alerts/domain/kinds.py). A `silent` one takes its key and tells nobody. It is kept until
    `keep_until`, at least 400 days; with `keep_for_ever`, always.
    """

    tenant_id: UUID | None
    kind: str
    dedupe_key: str
    subject: str
    details: Mapping[str, Any] = field(default_factory=dict)
    silent: bool = False
    keep_until: datetime | None = None
    keep_for_ever: bool = False

    def __post_init__(self) -> None:
        kind_of(self.kind)
        if not 1 <= len(self.dedupe_key) <= 200 or len(self.subject) > 300:
            raise BadAlert(f"{self.kind}: a key has 1 to 200 characters, a subject at most 300")


def raise_alert(
    *,
    tenant_id: UUID | None,
    kind: str,
    dedupe_key: str,
    subject: str,
    details: Mapping[str, Any],
    now: datetime,
) -> bool:
    """Raises one alert in the caller's transaction; returns whether it is new. See NewAlert and `raise_alerts`."""
    one = NewAlert(tenant_id=tenant_id, kind=kind, dedupe_key=dedupe_key, subject=subject, details=details)
    return raise_alerts(alerts=[one], now=now) == 1


def raise_alerts(*, alerts: Sequence[NewAlert], now: datetime) -> int:
    """Raises up to 10,000 alerts in the caller's transaction; returns how many of them are new.

    Each new one gets a delivery for every destination of its tenant that wants its kind. Nothing is sent before the
    commit, and nothing if it is undone. A transaction that has already raised some should not raise more: two of
    them could then wait for each other's keys. Raises BadAlert, UnknownKind.
    """
    return len(raise_and_list(alerts=alerts, now=now))


def raise_and_list(*, alerts: Sequence[NewAlert], now: datetime) -> set[UUID]:
    """As `raise_alerts`, returning the ids of the new ones."""
    if len(alerts) > ALERTS_MAX:
        raise BadAlert(f"at most {ALERTS_MAX} alerts at once")
    if not alerts:
        return set()
    # One statement without a transaction is one of its own, and commits at once.
    with transaction.atomic():
        if any(alert.tenant_id is None for alert in alerts):
            operators.keep_destinations(now=now)
        new, deliveries = store.insert([_row(alert, now) for alert in alerts], always=ALWAYS, now=now)
        if deliveries:
            transaction.on_commit(hints.deliveries_wait, robust=True)
    return new


def _row(alert: NewAlert, now: datetime) -> store.AlertRow:
    details = dict(alert.details)
    try:
        size = len(json.dumps(details))
    except (TypeError, ValueError) as error:
        raise BadAlert(f"{alert.kind}: its details are not JSON: {error}") from error
    if size > DETAILS_BYTES_MAX:
        raise BadAlert(f"{alert.kind}: its details are {size} bytes, more than {DETAILS_BYTES_MAX}")
    if any(isinstance(value, float) for value in details.values()):
        raise BadAlert(f"{alert.kind}: amounts are decimal strings, not floats")
    keep_until = None if alert.keep_for_ever else max(now + KEEP, alert.keep_until or now)
    return store.AlertRow(
        id=ids.new_uuid(now),
        tenant_id=alert.tenant_id,
        kind=alert.kind,
        severity=kind_of(alert.kind).severity_of(details).value,
        dedupe_key=alert.dedupe_key,
        subject=alert.subject,
        details=details,
        silent=alert.silent,
        keep_until=keep_until,
    )
