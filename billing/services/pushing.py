"""Sends the outbox: one sender a customer, frozen requests, repeated only while that is safe. ADR 0036.

Each step is short and named (`reached`): whatever kills a worker leaves a row that says what may have happened, and
the next worker does the one thing that is safe then.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from billing.domain.pushing import COUNTED_AFTER, MINUTE, PAST_MAX, backoff_seconds, may_repeat
from billing.domain.sink import (
    AlreadyTaken,
    Parcel,
    SinkBusy,
    SinkError,
    SinkUnauthorized,
    SinkUnavailable,
    UsageSink,
)
from billing.models import AccountState, Measurement, MeasurementState, StripeAccount, StripeLink
from billing.services.alerting import push_failed
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, access_of
from billing.services.stripe_setup import key_refused
from billing.stores import outbox as store
from billing.stripe.metering import StripeSink
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.sealing import Unreadable

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Requests of one account that are under way at once."""

LEASE: Final = timedelta(seconds=90)
"""For how long a measurement that is being sent is not due: several times what a request may take."""

RATE_LIVE: Final = 200
RATE_TEST: Final = 20
"""Requests a second to one account, well below Stripe's 1,000 and 25: others use the account too."""

PAUSE: Final = timedelta(seconds=5)
CHECKING: Final = "checking"

_chance = random.SystemRandom().random
SinkOf = Callable[[StripeAccount], UsageSink]


def stripe_sink(account: StripeAccount) -> UsageSink:
    """The sink of an account. Raises NoPlatformKey, Unreadable."""
    return StripeSink(access_of(account))


def push_batch(*, now: datetime, sink_of: SinkOf = stripe_sink, chance: Callable[[], float] = _chance) -> int:
    """Sends up to AT_ONCE due measurements of each account that has some; returns how many were looked at."""
    taken = 0
    for account_id in store.accounts_with_due(now=now):
        account = StripeAccount.objects.filter(pk=account_id, state=AccountState.READY).first()
        if account is not None:
            taken += push_account(account=account, now=now, sink_of=sink_of, chance=chance)
    return taken


def push_account(
    *,
    account: StripeAccount,
    now: datetime,
    sink_of: SinkOf = stripe_sink,
    chance: Callable[[], float] = _chance,
) -> int:
    """Sends one account's due measurements, the oldest of each customer, AT_ONCE at most and as the rate allows."""
    heads = store.heads(tenant_id=account.tenant_id, now=now, limit=AT_ONCE)
    rate = RATE_LIVE if account.livemode else RATE_TEST
    granted = store.take_tokens(account_id=account.pk, wanted=len(heads), rate=rate, now=now)
    heads = heads[:granted]
    if not heads:
        return 0
    try:
        sink = sink_of(account)
    except (NoPlatformKey, Unreadable) as error:
        key_refused(account=account, problem=str(error), now=now)
        return 0
    with _alone(account.tenant_id, [customer_id for _, customer_id in heads]) as mine:
        ids_ = [pk for pk, customer_id in heads if customer_id in mine]
        to_send, to_check = _mark(ids_, now)
        reached("marked")
        _send(account, sink, to_send, now, chance)
        for row in to_check:
            _check(account, sink, row, now)
    return len(ids_)


@contextmanager
def _alone(tenant_id: UUID, customers: Sequence[UUID]) -> Iterator[set[UUID]]:
    """Takes the lock of each customer that is free, for as long as the block runs; yields whose locks were had.

    Locks of the session: they end with the worker's connection, however it dies.
    """
    mine = {customer for customer in customers if store.lock(tenant_id=tenant_id, customer_id=customer)}
    try:
        yield mine
    finally:
        for customer in mine:
            store.unlock(tenant_id=tenant_id, customer_id=customer)


def _mark(wanted: Sequence[UUID], now: datetime) -> tuple[list[Measurement], list[Measurement]]:
    """Notes what is about to be sent before it is; returns what to send, and what to look for at Stripe instead."""
    to_send, to_check = [], []
    with transaction.atomic():
        rows = Measurement.objects.select_for_update().filter(
            pk__in=wanted, state=MeasurementState.PENDING, next_attempt_at__lte=now
        )
        for row in rows.order_by("pk"):
            if not may_repeat(first_sent_at=row.first_sent_at, now=now):
                if row.outcome == CHECKING:
                    to_check.append(row)
                else:
                    # The last attempt may have been a moment ago, and what arrived is counted later.
                    row.outcome, row.next_attempt_at = CHECKING, now + COUNTED_AFTER
                    row.save(update_fields=["outcome", "next_attempt_at"])
                continue
            if row.first_sent_at is None and now - row.at > PAST_MAX:
                _abandon(row, "too old", "its moment is longer ago than Stripe takes; it is told anew", now)
                continue
            row.first_sent_at = row.first_sent_at or now
            row.tries += 1
            row.next_attempt_at = now + LEASE
            row.save(update_fields=["first_sent_at", "tries", "next_attempt_at"])
            to_send.append(row)
    return to_send, to_check


def _send(
    account: StripeAccount,
    sink: UsageSink,
    rows: Sequence[Measurement],
    now: datetime,
    chance: Callable[[], float],
) -> None:
    """Sends side by side, and writes what became of each as soon as it is known. Threads touch no database."""
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="push") as pool:
        under_way = {pool.submit(sink.push, parcel_of(row)): row for row in rows}
        for done in as_completed(under_way):
            row, error = under_way[done], done.exception()
            reached("answered")
            if error is not None and not isinstance(error, SinkError):
                raise error
            _write(account, row, error, now, chance())
            reached("written")


def parcel_of(row: Measurement) -> Parcel:
    """What is sent for a measurement: the same every time."""
    return Parcel(
        key=row.key,
        meter_event=row.meter_event,
        customer=row.stripe_customer,
        value_micro=row.value_micro,
        at=row.at,
    )


def _write(
    account: StripeAccount, row: Measurement, error: SinkError | None, now: datetime, chance: float
) -> None:
    """Writes what became of an attempt."""
    again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
    mine = Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING)
    match error:
        case None | AlreadyTaken():
            # Taken by an earlier attempt whose answer was lost, or by this one.
            outcome = "taken" if error is None else "duplicate"
            mine.update(state=MeasurementState.DELIVERED, finished_at=now, outcome=outcome, error="")
        case SinkUnavailable():
            mine.update(next_attempt_at=again_at, error=str(error)[:300])
        case SinkBusy():
            asked = error.retry_after_seconds
            if asked is not None:
                again_at = max(again_at, now + timedelta(seconds=asked))
            # Busy means not taken: the day in which it may be repeated has not begun by this attempt.
            begun = {} if row.tries > 1 else {"first_sent_at": None}
            mine.update(next_attempt_at=again_at, error=str(error)[:300], **begun)
            if not error.narrow:
                pause = max(PAUSE, timedelta(seconds=asked or 0))
                StripeAccount.objects.filter(pk=account.pk).update(paused_until=now + pause)
        case SinkUnauthorized():
            begun = {} if row.tries > 1 else {"first_sent_at": None}
            mine.update(next_attempt_at=now, error=str(error)[:300], **begun)
            key_refused(account=account, problem=str(error), now=now)
        case _:
            fail(row=row, outcome="refused", reason=str(error), now=now)


def fail(*, row: Measurement, outcome: str, reason: str, now: datetime) -> bool:
    """Marks a measurement that Stripe did not take, and tells the tenant; returns whether it was not so marked before."""
    with transaction.atomic():
        changed = Measurement.objects.filter(
            pk=row.pk, state__in=[MeasurementState.PENDING, MeasurementState.DELIVERED]
        ).update(state=MeasurementState.FAILED, finished_at=now, outcome=outcome, error=reason[:300])
        if changed:
            _tell(row, reason, now)
    return bool(changed)


def _abandon(row: Measurement, outcome: str, reason: str, now: datetime) -> None:
    """Takes a measurement that Stripe surely does not have out of the sum: the next freeze tells its amount anew."""
    Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING).update(
        state=MeasurementState.ABANDONED, finished_at=now, outcome=outcome, error=reason[:300]
    )
    StripeLink.objects.filter(tenant_id=row.tenant_id, customer_id=row.customer_id).update(next_freeze_at=now)


def _check(account: StripeAccount, sink: UsageSink, row: Measurement, now: datetime) -> None:
    """Finds out whether a measurement that may no longer be repeated arrived: it has a minute of its own in summaries."""
    try:
        counted = sink.measured(
            meter_id=account.meter_id,
            customer=row.stripe_customer,
            starts_at=row.at,
            until=row.at + MINUTE,
        )
    except SinkUnauthorized as error:
        key_refused(account=account, problem=str(error), now=now)
        return
    except SinkError as error:
        Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING).update(
            next_attempt_at=now + PAUSE * 60, error=str(error)[:300]
        )
        return
    reached("checked")
    if counted == row.value_micro:
        Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING).update(
            state=MeasurementState.DELIVERED, finished_at=now, outcome="summary", error=""
        )
    elif counted == 0:
        _abandon(row, "expired", "Stripe did not get it in a day; it is told anew", now)
    else:
        reason = f"Stripe counted {counted} micro-USD in its minute, not {row.value_micro}"
        with transaction.atomic():
            changed = Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING).update(
                state=MeasurementState.UNCLEAR, finished_at=now, outcome="unclear", error=reason
            )
            if changed:
                _tell(row, reason, now)


def _tell(row: Measurement, reason: str, now: datetime) -> None:
    push_failed(
        tenant_id=row.tenant_id,
        about=ids.encode(ids.CUSTOMER, row.customer_id),
        reason=reason,
        details={
            "measurement": ids.encode(ids.MEASUREMENT, row.pk),
            "amount_usd": to_usd(row.value_micro * 1000),
            "window": row.window_starts_at.isoformat(),
        },
        now=now,
    )
