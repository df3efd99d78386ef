"""Tells the platform's Stripe how many requests tenants with a paid plan made, hour by hour, each once.

The outbox is one of its own beside that of tenants' customers, by the same rules (ADR 0036): what is told is the
difference between what an hour came to and what was told of it, frozen with its key, repeated only while that is
safe, and looked up in Stripe's summaries after that.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from billing.domain.pushing import (
    COUNTED_AFTER,
    MINUTE,
    PAST_MAX,
    backoff_seconds,
    closed_until,
    hour_of,
    may_repeat,
    measurement_key,
    moment_of,
    next_close,
)
from billing.domain.sink import AlreadyTaken, Parcel, SinkBusy, SinkError, SinkUnauthorized, SinkUnavailable
from billing.models import ACTIVE, MeasurementState, PlanAccount, PlanReport
from billing.queries import plan_counts
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, platform_access
from billing.stripe.client import StripeAccess
from billing.stripe.metering import StripeSink
from billing.stripe.plans import METER
from billing.stripe.setup import ensure_meter, is_live
from noburn.kit import ids

log = logging.getLogger(__name__)

AT_ONCE: Final = 20
LEASE: Final = timedelta(seconds=90)
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
    taken = _take(now)
    reached("plan marked")
    sink = StripeSink(access)
    for row in taken:
        if may_repeat(first_sent_at=row.first_sent_at, now=now):
            _send(sink, row, now, chance)
        else:
            _check(access, sink, row, now)
    return len(taken)


def _take(now: datetime) -> list[PlanReport]:
    """Leases what is due: the row says that it may have been sent before it is."""
    with transaction.atomic():
        due = PlanReport.objects.select_for_update(skip_locked=True).filter(
            state=MeasurementState.PENDING, next_attempt_at__lte=now
        )
        taken: dict[object, PlanReport] = {}
        for row in due.order_by("hour", "seq", "pk")[: AT_ONCE * 4]:
            # Others of the tenant wait: Stripe takes one call at a time for a customer and meter.
            if row.tenant_id not in taken and len(taken) < AT_ONCE:
                taken[row.tenant_id] = row
        for row in taken.values():
            row.tries += 1
            row.next_attempt_at = now + LEASE
            if may_repeat(first_sent_at=row.first_sent_at, now=now):
                row.first_sent_at = row.first_sent_at or now
            row.save(update_fields=["tries", "first_sent_at", "next_attempt_at"])
    return list(taken.values())


def _send(sink: StripeSink, row: PlanReport, now: datetime, chance: float) -> None:
    parcel = Parcel(
        key=row.key,
        meter_event=row.meter_event,
        customer=row.stripe_customer,
        value_micro=row.requests,
        at=row.at,
    )
    again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
    mine = PlanReport.objects.filter(pk=row.pk, state=MeasurementState.PENDING)
    try:
        sink.push(parcel)
        reached("plan answered")
    except AlreadyTaken:
        pass
    except (SinkUnavailable, SinkUnauthorized) as error:
        mine.update(next_attempt_at=again_at, error=str(error)[:300])
        return
    except SinkBusy as error:
        # Busy means not taken.
        begun = {} if row.tries > 1 else {"first_sent_at": None}
        mine.update(next_attempt_at=again_at, error=str(error)[:300], **begun)
        return
    except SinkError as error:
        log.error("requests of a plan were refused: %s", error)
        mine.update(state=MeasurementState.FAILED, finished_at=now, error=str(error)[:300])
        return
    mine.update(state=MeasurementState.DELIVERED, finished_at=now, error="")
    reached("plan written")


def _check(access: StripeAccess, sink: StripeSink, row: PlanReport, now: datetime) -> None:
    """Looks for a report that may no longer be repeated: it has a minute of its own in Stripe's summaries."""
    mine = PlanReport.objects.filter(pk=row.pk, state=MeasurementState.PENDING)
    try:
        meter = ensure_meter(access, event_name=row.meter_event, name="Requests to noburn")
        found = sink.measured(
            meter_id=meter, customer=row.stripe_customer, starts_at=row.at, until=row.at + MINUTE
        )
    except SinkError as error:
        mine.update(next_attempt_at=now + COUNTED_AFTER, error=str(error)[:300])
        return
    if found == row.requests:
        mine.update(state=MeasurementState.DELIVERED, finished_at=now, error="")
    elif found == 0:
        # Surely not there: the next freeze tells it anew, under another key.
        mine.update(state=MeasurementState.ABANDONED, finished_at=now)
        PlanAccount.objects.filter(pk=row.account_id).update(next_report_at=now)
    else:
        said = f"Stripe counted {found} requests in its minute, not {row.requests}"
        mine.update(state=MeasurementState.UNCLEAR, finished_at=now, error=said)
