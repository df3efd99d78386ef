"""Writes the outbox: closed windows become measurements, in one transaction with how far the customer is told.

What a customer owes is cumulative, so each measurement is a difference: owed up to the window's end, less what is in
the outbox of the period. Late usage, re-ratings and what was abandoned come out of the same difference; once a
period's invoice is final it is carried into the present period instead. ADR 0036.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Q, Sum

from billing.domain.pushing import (
    HOUR,
    PAST_MAX,
    closed_until,
    measurement_key,
    micro,
    moment_of,
    next_close,
    owed_by_closed,
    parts,
)
from billing.domain.sink import SinkError, SinkUnavailable
from billing.models import (
    ACTIVE,
    BILLED,
    AccountState,
    BillingPeriod,
    LinkState,
    Measurement,
    MeasurementKind,
    StripeAccount,
    StripeLink,
)
from billing.services.alerting import push_failed
from billing.services.charges import InvalidPeriod, PeriodPruned
from billing.services.owed import Debtor, Owed
from billing.services.periods import ensure_periods
from billing.services.quiet import pass_over
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey
from billing.services.stripe_links import refresh_subscription
from noburn.kit import ids
from noburn.kit.sealing import Unreadable

log = logging.getLogger(__name__)

METER: Final = "usage"
WINDOWS_MAX: Final = 96
"""Windows of one transaction: four days."""

LINKS_AT_ONCE: Final = 50
TOGETHER_MIN: Final = 2
FOLLOWED: Final = timedelta(days=70)
"""For how long after its end a closed period is looked at every hour; the nightly reconciliation looks at all."""

FOLLOWED_NIGHTLY: Final = timedelta(days=400)
RETRY: Final = timedelta(minutes=5)
PAUSE: Final = timedelta(minutes=1)
UNBILLED: Final = timedelta(hours=6)
"""How soon a customer is looked at again whose subscription ended: Stripe tells of the next one, and may have."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """What one look at a customer did. `more`: closed windows are left. `waits`: for something that is not known yet."""

    measurements: int = 0
    more: bool = False
    waits: bool = False


def freeze_due(*, now: datetime, limit: int = LINKS_AT_ONCE) -> int:
    """Freezes what is due of up to `limit` customers; returns how many customers that were. 0: nothing is due.

    Of whom nothing new is owed is found out together; the others are frozen one by one.
    """
    ready = StripeAccount.objects.filter(state=AccountState.READY).values("tenant_id")
    due = list(
        StripeLink.objects.filter(state=LinkState.LINKED, next_freeze_at__lte=now, tenant_id__in=ready)
        .order_by("next_freeze_at", "pk")
        .values_list("pk", flat=True)[:limit]
    )
    passed = _passed_over(due, now)
    for link_id in due:
        if link_id in passed:
            continue
        try:
            freeze(link_id=link_id, now=now)
        except Exception:
            # One customer that cannot be charged must not keep the others from being.
            log.exception("link %s could not be frozen", link_id)
            StripeLink.objects.filter(pk=link_id).update(next_freeze_at=now + RETRY)
    return len(due)


def _passed_over(due: Sequence[UUID], now: datetime) -> set[UUID]:
    """Those of whom nothing new is owed; none where that cannot be found out together."""
    if len(due) < TOGETHER_MIN:
        return set()
    try:
        return pass_over(links=due, now=now, followed=FOLLOWED)
    except Exception:
        # One that cannot be charged is found when each is looked at by itself.
        log.exception("%d customers could not be looked at together", len(due))
        return set()


def freeze(*, link_id: UUID, now: datetime, followed: timedelta = FOLLOWED) -> Frozen:
    """Freezes what one customer owes up to the last closed window, some days of windows at most.

    Reads the subscription first when its period is over. Raises nothing for want of Stripe: then only what belongs to
    periods that are known is frozen, and the rest is due again soon.
    """
    row = StripeLink.objects.filter(pk=link_id, state=LinkState.LINKED).first()
    account = None if row is None else StripeAccount.objects.filter(tenant_id=row.tenant_id).first()
    if row is None or account is None or account.state != AccountState.READY:
        return Frozen()
    known = True
    if row.period_ends_at is None or row.period_ends_at <= now:
        known = _refresh(account, row, now)
    with transaction.atomic():
        link = StripeLink.objects.select_for_update(no_key=True).filter(pk=row.pk).first()
        if link is None or link.state != LinkState.LINKED:
            return Frozen()
        found = Frozen()
        if link.subscription_status in BILLED and link.period_ends_at is not None:
            found = _freeze(account, link, now, followed)
            if not known or link.period_ends_at <= now:
                found = replace(found, waits=True)
        again = next_close(now) if link.subscription_status in BILLED else now + UNBILLED
        link.next_freeze_at = now if found.more else now + RETRY if found.waits else again
        link.save(update_fields=["frozen_until", "next_freeze_at"])
        reached("frozen")
    return found


def _refresh(account: StripeAccount, link: StripeLink, now: datetime) -> bool:
    """Reads a subscription whose period is over; returns whether it could be read.

    Of an account whose Stripe did not answer the next ones are not asked for a while: each would wait as long again.
    """
    if account.paused_until is not None and account.paused_until > now:
        return False
    try:
        refresh_subscription(account=account, link_id=link.pk, now=now)
    except SinkUnavailable as error:
        log.warning("the subscription of link %s could not be read: %s", link.pk, error)
        StripeAccount.objects.filter(pk=account.pk).update(paused_until=now + PAUSE)
        return False
    except (SinkError, NoPlatformKey, Unreadable) as error:
        log.warning("the subscription of link %s could not be read: %s", link.pk, error)
        return False
    return True


def _freeze(account: StripeAccount, link: StripeLink, now: datetime, followed: timedelta) -> Frozen:
    periods = ensure_periods(account=account, link=link, now=now)
    debtor = Debtor(tenant_id=link.tenant_id, customer_id=link.customer_id)
    until, count, left = closed_until(now), 0, WINDOWS_MAX
    for period in periods:
        if period.closed_at is not None:
            continue
        ends = _window_ends(period, link.frozen_until, until, left)
        try:
            written, complete = _take(account, link, debtor, period, ends, now)
        except PeriodPruned:
            _give_up(link, period, now)
            continue
        count, left = count + written, left - len(ends)
        if not complete:
            return Frozen(count, waits=True)
        if ends and ends[-1] < min(until, period.ends_at):
            return Frozen(count, more=True)
    return Frozen(count + _carry(account, link, debtor, periods, until, now, followed))


def _give_up(link: StripeLink, period: BillingPeriod, now: datetime) -> None:
    """Closes a period whose hours are no longer kept, with what was told of it, and says so: nobody can charge the rest.

    Hours of open periods are kept for over a year (`billing.services.kept_hours`), so this is the end of a long story.
    """
    period.closed_at = now
    period.save(update_fields=["closed_at"])
    push_failed(
        tenant_id=link.tenant_id,
        about=ids.encode(ids.CUSTOMER, link.customer_id),
        reason="the use of a period is no longer known by the hour: what was not told of it cannot be billed",
        details={
            "period_starts_at": period.starts_at.isoformat(),
            "period_ends_at": period.ends_at.isoformat(),
            "told_until": (period.owed_until or period.starts_at).isoformat(),
        },
        now=now,
    )


def _window_ends(
    period: BillingPeriod, frozen_until: datetime | None, until: datetime, most: int
) -> list[datetime]:
    """The ends of an open period's closed windows that are still to be told, `most` and one at most.

    The last one that was told comes first, once more: what came late since is a further measurement of it.
    """
    last = min(until, period.ends_at)
    told = min(max(frozen_until or period.starts_at, period.starts_at), last)
    ends = [told] if told > period.starts_at else []
    while told < last and len(ends) <= most:
        told += HOUR
        ends.append(told)
    return ends


def _take(
    account: StripeAccount,
    link: StripeLink,
    debtor: Debtor,
    period: BillingPeriod,
    ends: Sequence[datetime],
    now: datetime,
) -> tuple[int, bool]:
    """Writes what windows owe; returns measurements, and whether the sums of usage were whole so far.

    Windows in which nothing is owed are passed over together: what is owed is asked for at both ends of a stretch, and
    within it only where the two differ. A customer that was away for a month costs a few questions, not 700.
    """
    asked: dict[datetime, Owed] = {}

    def at(window_end: datetime) -> Owed:
        if window_end not in asked:
            asked[window_end] = debtor.owed(
                starts_at=period.starts_at,
                until=window_end,
                # The last hour of a period that is no subscription's brings no minimum with it.
                whole=window_end == period.ends_at and period.stripe_ends_at is not None,
                now=now,
            )
        return asked[window_end]

    count, own = 0, _sum(Q(period=period, kind=MeasurementKind.USAGE))
    stretches = [(0, len(ends) - 1)] if ends else []
    while stretches:
        first, last = stretches.pop()
        found = at(ends[last])
        left = micro(found.nano) - own
        if left and first < last:
            middle = (first + last) // 2
            # The earlier half comes first.
            stretches += [(middle + 1, last), (first, middle)]
            continue
        if not found.complete:
            return count, False
        for value in parts(left):
            written = _write(
                account, link, period, ends[last] - HOUR, value, found.nano, now, carried_from=None
            )
            count, own = count + written, own + written * value
        period.owed_nano, period.owed_until = found.nano, ends[last]
        link.frozen_until = max(link.frozen_until or ends[last], ends[last])
    period.save(update_fields=["owed_nano", "owed_until"])
    return count, True


def _carry(
    account: StripeAccount,
    link: StripeLink,
    debtor: Debtor,
    periods: Sequence[BillingPeriod],
    until: datetime,
    now: datetime,
    followed: timedelta,
) -> int:
    """Carries what closed periods still owe into the present one; returns how many measurements that took."""
    present = periods[-1]
    if present.closed_at is not None or until <= present.starts_at:
        return 0
    window = min(until, present.ends_at) - HOUR
    count = 0
    for period in periods:
        if period.closed_at is None or period.invoiced_micro is None or period.ends_at < now - followed:
            continue
        try:
            found = debtor.owed(
                starts_at=period.starts_at,
                until=period.ends_at,
                # Hours without a subscription are no period that a minimum is owed for.
                whole=period.stripe_ends_at is not None,
                now=now,
            )
        except InvalidPeriod:
            continue  # Its hours are no longer kept: what was owed when they were stands.
        if not found.complete:
            continue
        if (period.owed_nano, period.owed_until) != (found.nano, period.ends_at):
            period.owed_nano, period.owed_until = found.nano, period.ends_at
            period.save(update_fields=["owed_nano", "owed_until"])
        left = owed_by_closed(
            owed_micro=micro(found.nano),
            carried_in_micro=_sum(Q(period=period, kind=MeasurementKind.CARRY)),
            invoiced_micro=period.invoiced_micro,
        )
        for value in parts(left - _sum(Q(carried_from=period))):
            count += _write(account, link, present, window, value, found.nano, now, carried_from=period)
    return count


def _sum(which: Q) -> int:
    found = Measurement.objects.filter(which, state__in=ACTIVE).aggregate(total=Sum("value_micro"))
    return int(found["total"] or 0)


def _write(
    account: StripeAccount,
    link: StripeLink,
    period: BillingPeriod,
    window: datetime,
    value: int,
    owed_nano: int,
    now: datetime,
    *,
    carried_from: BillingPeriod | None,
) -> int:
    """Puts one measurement into the outbox; returns 1, or 0 when the window has no minute left for it."""
    highest = Measurement.objects.filter(
        tenant_id=link.tenant_id, customer_id=link.customer_id, window_starts_at=window
    ).aggregate(seq=Max("seq"))["seq"]
    seq = 0 if highest is None else highest + 1
    at = moment_of(window=window, seq=seq)
    if at is None or (period.stripe_starts_at is not None and at < period.stripe_starts_at):
        return 0
    if now - at > PAST_MAX:
        return 0  # Stripe would not take it. When the period's invoice is known, it is carried.
    Measurement.objects.create(
        id=ids.new_uuid(now),
        tenant_id=link.tenant_id,
        customer_id=link.customer_id,
        period=period,
        kind=MeasurementKind.USAGE if carried_from is None else MeasurementKind.CARRY,
        carried_from=carried_from,
        window_starts_at=window,
        seq=seq,
        key=measurement_key(
            live=account.livemode,
            tenant=ids.encode(ids.TENANT, link.tenant_id),
            customer=ids.encode(ids.CUSTOMER, link.customer_id),
            meter=METER,
            window=window,
            seq=seq,
        ),
        meter_event=account.meter_event,
        stripe_customer=link.stripe_customer,
        value_micro=value,
        at=at,
        owed_nano=owed_nano,
        created_at=now,
        next_attempt_at=now,
    )
    return 1
