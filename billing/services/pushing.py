"""Sends the outbox of customers' use: one sender a customer, by the rules of `billing.services.sending`. ADR 0036.

Each step is short and named (`reached`): whatever kills a worker leaves a row that says what may have happened, and
the next worker does the one thing that is safe then.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta
from typing import Final

from billing.domain.sink import Parcel, SinkBusy, SinkError, SinkUnauthorized, UsageSink
from billing.models import AccountState, Measurement, MeasurementState, StripeAccount, StripeLink
from billing.services.alerting import push_failed
from billing.services.sending import Outbox
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

RATE_LIVE: Final = 200
RATE_TEST: Final = 20
"""Requests a second to one account, well below Stripe's 1,000 and 25: others use the account too."""

PAUSE: Final = timedelta(seconds=5)

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
    with store.alone((account.tenant_id, customer_id) for _, customer_id in heads) as mine:
        ids_ = [pk for pk, customer_id in heads if (account.tenant_id, customer_id) in mine]
        to_send, to_check = OUTBOX.mark(wanted=ids_, now=now)
        reached("marked")
        _send(account, sink, to_send, now, chance)
        for row in to_check:
            _check(account, sink, row, now)
    return len(ids_)


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
    """Writes what became of an attempt, and what follows for the account."""
    OUTBOX.write(row=row, error=error, now=now, chance=chance)
    if isinstance(error, SinkBusy) and not error.narrow:
        pause = max(PAUSE, timedelta(seconds=error.retry_after_seconds or 0))
        StripeAccount.objects.filter(pk=account.pk).update(paused_until=now + pause)
    elif isinstance(error, SinkUnauthorized):
        # It waits for the account, not for a time.
        Measurement.objects.filter(pk=row.pk, state=MeasurementState.PENDING).update(next_attempt_at=now)
        key_refused(account=account, problem=str(error), now=now)


def fail(*, row: Measurement, outcome: str, reason: str, now: datetime) -> bool:
    """Marks a measurement that Stripe did not take, and tells the tenant; returns whether it was not so marked before."""
    return OUTBOX.fail(row=row, outcome=outcome, reason=reason, now=now)


def _check(account: StripeAccount, sink: UsageSink, row: Measurement, now: datetime) -> None:
    """Finds out whether a measurement that may no longer be repeated arrived."""
    try:
        OUTBOX.check(sink=sink, meter_id=account.meter_id, row=row, now=now)
    except SinkUnauthorized as error:
        key_refused(account=account, problem=str(error), now=now)


def _anew(row: Measurement, now: datetime) -> None:
    """Has the next freeze tell an abandoned measurement's amount anew."""
    StripeLink.objects.filter(tenant_id=row.tenant_id, customer_id=row.customer_id).update(next_freeze_at=now)


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


OUTBOX: Final = Outbox(rows=Measurement, parcel_of=parcel_of, unit="micro-USD", anew=_anew, tell=_tell)
