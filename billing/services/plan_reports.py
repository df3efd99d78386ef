"""Tells the platform's Stripe how many requests tenants with a paid plan made, hour by hour, each once.

The outbox is one of its own beside that of tenants' customers, sent by the same rules (`billing.services.sending`). What
is told is the difference between what an hour came to and what was told of it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from billing.domain.pushing import (
    PAST_MAX,
    closed_until,
    hour_of,
    measurement_key,
    moment_of,
    next_close,
)
from billing.domain.sink import Parcel, SinkError
from billing.models import ACTIVE, MeasurementState, PlanAccount, PlanReport
from billing.queries import plan_counts
from billing.services.sending import ASK_AGAIN, Outbox
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, platform_access
from billing.stores import outbox as store
from billing.stripe.client import StripeAccess
from billing.stripe.metering import StripeSink
from billing.stripe.plans import METER
from billing.stripe.setup import ensure_meter, is_live
from noburn.kit import ids

log = logging.getLogger(__name__)

AT_ONCE: Final = 20
SINK: Final = "plan"
DRAFT: Final = timedelta(hours=3)
"""How far before a period hours are still told: an hour's draft of its invoice, and a clock that is off."""


def freeze_due(*, now: datetime, limit: int = AT_ONCE) -> int:
    """Writes what closed hours still owe of up to `limit` tenants; returns how many that were."""
    due = PlanAccount.objects.filter(next_report_at__lte=now).exclude(stripe_customer="")
    accounts = list(due.order_by("next_report_at", "pk")[:limit])
    for account in accounts:
        freeze(account=account, now=now)
    return len(accounts)


def freeze(*, account: PlanAccount, now: datetime) -> int:
    """Writes what closed hours of a tenant's present period still owe; returns how many reports that took.

    The last hours of the period before are looked at as long as its invoice may be a draft. What comes later still is
    not told: it is ours to lose, and nobody is charged twice.
    """
    with transaction.atomic():
        held = PlanAccount.objects.select_for_update().get(pk=account.pk)
        written, until = 0, closed_until(now)
        starts_at, began = held.period_starts_at, held.subscribed_at
        if held.subscription and starts_at is not None and began is not None:
            since = hour_of(max(began, starts_at - DRAFT, now - PAST_MAX))
            written = _write(held, since, until, now)
        # One that ended has its last hours told, and is then left alone.
        held.next_report_at = next_close(now) if held.subscription else None
        held.save(update_fields=["next_report_at"])
        reached("plan frozen")
    return written


def _write(account: PlanAccount, since: datetime, until: datetime, now: datetime) -> int:
    made = plan_counts.requests_by_hour(tenant_id=account.tenant_id, starts_at=since, ends_at=until)
    told: dict[datetime, int] = defaultdict(int)
    seqs: dict[datetime, int] = defaultdict(int)
    rows = PlanReport.objects.filter(tenant_id=account.tenant_id, hour__gte=since, hour__lt=until)
    for row in rows.order_by("hour", "seq"):
        seqs[row.hour] = row.seq + 1
        if row.state in ACTIVE:
            told[row.hour] += row.requests
    written, live = 0, is_live(platform_access())
    for hour in sorted(made.keys() | told.keys()):
        left, seq = made.get(hour, 0) - told[hour], seqs[hour]
        at = moment_of(window=hour, seq=seq)
        begins = account.subscribed_at
        if not left or at is None or (begins is not None and at < begins):
            continue
        tenant = ids.encode(ids.TENANT, account.tenant_id)
        PlanReport.objects.create(
            id=ids.new_uuid(now),
            tenant_id=account.tenant_id,
            account=account,
            hour=hour,
            seq=seq,
            key=measurement_key(
                live=live, tenant="noburn", customer=tenant, meter=SINK, window=hour, seq=seq
            ),
            meter_event=METER,
            stripe_customer=account.stripe_customer,
            requests=left,
            at=at,
            created_at=now,
            next_attempt_at=now,
        )
        written += 1
    return written


def push_due(*, now: datetime, chance: float = 0.5) -> int:
    """Sends due reports, the oldest of each tenant, one after the other; returns how many were looked at."""
    try:
        access = platform_access()
    except NoPlatformKey:
        return 0
    heads = store.report_heads(now=now, limit=AT_ONCE)
    with store.alone(sender for _, sender in heads) as mine:
        ids_ = [pk for pk, sender in heads if sender in mine]
        to_send, to_check = OUTBOX.mark(wanted=ids_, now=now)
        reached("plan marked")
        sink = StripeSink(access)
        for row in to_send:
            OUTBOX.write(row=row, error=_sent(sink, row), now=now, chance=chance)
            reached("plan written")
        for row in to_check:
            _check(access, sink, row, now)
    return len(ids_)


def _sent(sink: StripeSink, row: PlanReport) -> SinkError | None:
    """Sends a report; returns what went wrong."""
    error = None
    try:
        sink.push(parcel_of(row))
    except SinkError as failed:
        error = failed
    reached("plan answered")
    return error


def _check(access: StripeAccess, sink: StripeSink, row: PlanReport, now: datetime) -> None:
    """Looks for a report that may no longer be repeated."""
    try:
        meter = ensure_meter(access, event_name=row.meter_event, name="Requests to noburn")
        OUTBOX.check(sink=sink, meter_id=meter, row=row, now=now)
    except SinkError as error:
        mine = PlanReport.objects.filter(pk=row.pk, state=MeasurementState.PENDING)
        mine.update(next_attempt_at=now + ASK_AGAIN, error=str(error)[:300])


def parcel_of(row: PlanReport) -> Parcel:
    """What is sent for a report: the same every time."""
    return Parcel(
        key=row.key,
        meter_event=row.meter_event,
        customer=row.stripe_customer,
        value_micro=row.requests,
        at=row.at,
    )


def _anew(row: PlanReport, now: datetime) -> None:
    """Has the next freeze tell an abandoned report's requests anew."""
    PlanAccount.objects.filter(pk=row.account_id).update(next_report_at=now)


def _tell(row: PlanReport, reason: str, now: datetime) -> None:
    # The operator's own account: nobody else is told.
    del now
    log.error("requests of a plan, %s, were not taken: %s", row.key, reason)


OUTBOX: Final = Outbox(rows=PlanReport, parcel_of=parcel_of, unit="requests", anew=_anew, tell=_tell)
