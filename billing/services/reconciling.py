"""Reconciliation: the ledger's billable total, the outbox and Stripe's summaries side by side, period by period.

It mends nothing. What is late is told by the next freeze, what is due is sent by the pusher; what neither explains is
shown, and told to the tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, Sum

from billing.domain.pushing import WARN_AFTER, closed_until
from billing.domain.reconciling import Explained, Sums, explain
from billing.domain.sink import SinkError, SinkUnavailable, UsageSink
from billing.models import (
    ACTIVE,
    BILLED,
    AccountState,
    BillingPeriod,
    LinkState,
    Measurement,
    MeasurementKind,
    MeasurementState,
    Reconciliation,
    StripeAccount,
    StripeLink,
)
from billing.services import freezing, invoices
from billing.services.alerting import push_failed
from billing.services.charges import InvalidPeriod, period_charges
from billing.services.owed import Owed, owed
from billing.services.pushing import SinkOf, stripe_sink
from billing.services.stripe_access import NoPlatformKey
from billing.services.stripe_accounts import missing
from billing.services.wallet_shares import shares_in
from budgets.domain.usage import read_question
from budgets.queries import usage
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.sealing import Unreadable
from tenants.models import Customer

log = logging.getLogger(__name__)

SUMMARIES_AFTER: Final = timedelta(hours=1)
"""How long Stripe's summaries may take to follow."""

EVERY: Final = timedelta(hours=20)
"""How long ago a customer was reconciled when it is again: once a night, whenever workers have the time."""

LOOKED_AT: Final = timedelta(days=400)
UNLINKED_MAX: Final = 200
SHOWN_DAYS_MAX: Final = 90


@dataclass(frozen=True, slots=True)
class Waiting:
    """A customer whose use is billed to nobody at Stripe: what it owes since `since` beyond its wallet; why it waits."""

    customer: str
    owed_nano: int
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Status:
    """How a tenant's billing stands."""

    account: StripeAccount
    missing: list[str]
    links: dict[str, int]
    measurements: dict[str, int]
    oldest_pending_at: datetime | None
    waiting: list[Waiting]


def reconcile(
    *, tenant_id: UUID, now: datetime, sink_of: SinkOf = stripe_sink, refresh: bool = True
) -> list[Reconciliation]:
    """Compares every period of a tenant's that may still differ; returns what was found, and tells of what is wrong.

    With `refresh` invoices are read first, and what came late for long closed periods is frozen.
    """
    links = StripeLink.objects.filter(tenant_id=tenant_id).order_by("pk").values_list("pk", flat=True)
    found: list[Reconciliation] = []
    for link_id in list(links):
        found += reconcile_link(link_id=link_id, now=now, sink_of=sink_of, refresh=refresh)
    return found


def reconcile_due(*, now: datetime, sink_of: SinkOf = stripe_sink) -> int:
    """Reconciles one customer that has not been for most of a day; returns how many there were, 0 or 1."""
    with transaction.atomic():
        link = (
            StripeLink.objects.select_for_update(skip_locked=True)
            .filter(Q(reconciled_at=None) | Q(reconciled_at__lte=now - EVERY))
            .order_by(F("reconciled_at").asc(nulls_first=True), "pk")
            .first()
        )
        if link is None:
            return 0
        link.reconciled_at = now
        link.save(update_fields=["reconciled_at"])
    reconcile_link(link_id=link.pk, now=now, sink_of=sink_of)
    return 1


def reconcile_link(
    *, link_id: UUID, now: datetime, sink_of: SinkOf = stripe_sink, refresh: bool = True
) -> list[Reconciliation]:
    """Reconciles one customer's periods, as `reconcile`."""
    link = StripeLink.objects.filter(pk=link_id).first()
    if link is None:
        return []
    account = StripeAccount.objects.filter(tenant_id=link.tenant_id, state=AccountState.READY).first()
    sink: UsageSink | None = None
    if account is not None:
        try:
            sink = sink_of(account)
        except (NoPlatformKey, Unreadable) as error:
            log.warning("link %s is reconciled without Stripe: %s", link.pk, error)
    if refresh and account is not None and sink is not None and link.state == LinkState.LINKED:
        if not _refresh(account, link, now):
            sink = None  # Each further question would wait as long again.
        link.refresh_from_db()
    periods = BillingPeriod.objects.filter(
        tenant_id=link.tenant_id, customer_id=link.customer_id, ends_at__gt=now - LOOKED_AT
    ).order_by("starts_at")
    found: list[Reconciliation] = []
    for period in periods:
        found.append(_compare(account, link, period, sink, now))
        if found[-1].measured_micro is None:
            sink = None
    _tell(link, found, now)
    return found


def _refresh(account: StripeAccount, link: StripeLink, now: datetime) -> bool:
    """Reads a customer's invoices and freezes what came late; returns whether Stripe answered."""
    answered = True
    try:
        invoices.refresh_invoices(account=account, link=link, now=now)
    except SinkError as error:
        log.warning("the invoices of link %s could not be read: %s", link.pk, error)
        answered = not isinstance(error, SinkUnavailable)
    if answered:
        freezing.freeze(link_id=link.pk, now=now, followed=freezing.FOLLOWED_NIGHTLY)
    return answered


def _compare(
    account: StripeAccount | None,
    link: StripeLink,
    period: BillingPeriod,
    sink: UsageSink | None,
    now: datetime,
) -> Reconciliation:
    measured = None if account is None or sink is None else _measured(account, link, period, sink)
    with transaction.atomic():
        fresh = BillingPeriod.objects.select_for_update(no_key=True).get(pk=period.pk)
        try:
            found = owed(
                tenant_id=period.tenant_id,
                customer_id=period.customer_id,
                starts_at=fresh.starts_at,
                until=min(closed_until(now), fresh.ends_at) if fresh.ends_at > now else fresh.ends_at,
                whole=fresh.ends_at <= now and fresh.stripe_ends_at is not None,
                now=now,
            )
        except InvalidPeriod:
            # Its hours are no longer kept: what was found when they were stands.
            found = Owed(fresh.owed_nano, complete=True)
        sums = _sums(link, fresh, found, measured, now)
        explained = explain(sums)
        row, _ = Reconciliation.objects.update_or_create(
            tenant_id=period.tenant_id,
            period=fresh,
            defaults=_fields(fresh, sums, explained, now),
            create_defaults={
                **_fields(fresh, sums, explained, now),
                "id": ids.new_uuid(now),
            },
        )
    return row


def _fields(period: BillingPeriod, sums: Sums, explained: Explained, now: datetime) -> dict[str, Any]:
    return {
        "customer_id": period.customer_id,
        "owed_nano": sums.owed_nano,
        "told_micro": sums.pending + sums.failed + sums.unclear + sums.delivered,
        "delivered_micro": sums.delivered,
        "measured_micro": sums.measured,
        "invoiced_micro": sums.invoiced,
        "differences": [{"kind": d.kind.value, "micro": d.micro} for d in explained.differences],
        "unexplained_micro": explained.unexplained_micro,
        "agrees": explained.agrees,
        "checked_at": now,
    }


def _measured(account: StripeAccount, link: StripeLink, period: BillingPeriod, sink: UsageSink) -> int | None:
    """What Stripe counted in a period, for whichever of its customers were told; None where it could not be asked."""
    told = Measurement.objects.filter(period=period).values_list("stripe_customer", flat=True).distinct()
    try:
        return sum(
            sink.measured(
                meter_id=account.meter_id,
                customer=customer,
                starts_at=period.starts_at,
                until=period.ends_at,
            )
            for customer in sorted({*told, *([link.stripe_customer] if link.stripe_customer else [])})
        )
    except SinkError as error:
        log.warning("what Stripe counted for link %s is not known: %s", link.pk, error)
        return None


def _sums(link: StripeLink, period: BillingPeriod, found: Owed, measured: int | None, now: datetime) -> Sums:
    def total(which: Q) -> int:
        return int(
            Measurement.objects.filter(which, state__in=ACTIVE).aggregate(t=Sum("value_micro"))["t"] or 0
        )

    here = Q(period=period)
    recent = here & Q(state=MeasurementState.DELIVERED, finished_at__gt=now - SUMMARIES_AFTER)
    return Sums(
        owed_nano=found.nano + found.wallet_nano,
        wallet_nano=found.wallet_nano,
        carried_in=total(here & Q(kind=MeasurementKind.CARRY)),
        carried_out=total(Q(carried_from=period)),
        pending=total(here & Q(state=MeasurementState.PENDING)),
        failed=total(here & Q(state=MeasurementState.FAILED)),
        unclear=total(here & Q(state=MeasurementState.UNCLEAR)),
        delivered=total(here & Q(state=MeasurementState.DELIVERED)),
        recent_up=total(recent & Q(value_micro__gt=0)),
        recent_down=total(recent & Q(value_micro__lt=0)),
        measured=measured,
        invoiced=period.invoiced_micro if period.closed_at is not None else None,
        linked=link.state == LinkState.LINKED and link.subscription_status in BILLED,
    )


def _tell(link: StripeLink, found: list[Reconciliation], now: datetime) -> None:
    wrong = [row for row in found if not row.agrees]
    if not wrong:
        return
    with transaction.atomic():
        push_failed(
            tenant_id=link.tenant_id,
            about=ids.encode(ids.CUSTOMER, link.customer_id),
            reason=f"{len(wrong)} billing periods do not agree with Stripe",
            details={"unexplained_usd": to_usd(sum(row.unexplained_micro for row in wrong) * 1000)},
            now=now,
        )


def waiting(*, account: StripeAccount, now: datetime) -> list[Waiting]:
    """Customers that used something since the account's `billed_from` and are billed to nobody at Stripe, 200 at most.

    Not within a transaction: sums are read on a snapshot of their own.
    """
    since = max(account.billed_from, closed_until(now) - timedelta(days=SHOWN_DAYS_MAX))
    until = closed_until(now)
    if since >= until:
        return []
    question = read_question(
        {"bucket": "none", "group_by": "customer", "sort": "-cost_usd", "from": since.isoformat()}, now=now
    )
    names = [
        str(row["names"]["customer"])
        for row in usage.ask(
            tenant_id=account.tenant_id, question=question, after=None, limit=UNLINKED_MAX
        ).rows
        if row["names"]["customer"]
    ]
    customers = {
        row.external_id: row.pk
        for row in Customer.objects.filter(tenant_id=account.tenant_id, external_id__in=names)
    }
    links = {
        row.customer_id: row
        for row in StripeLink.objects.filter(tenant_id=account.tenant_id, customer_id__in=customers.values())
    }
    reasons = {name: _why(links.get(pk)) for name, pk in customers.items()}
    unbilled = [name for name in names if reasons.get(name)]
    if not unbilled:
        return []
    charges = period_charges(
        tenant_id=account.tenant_id, customers=unbilled, starts_at=since, until=until, now=now
    )
    shares = shares_in(tenant_id=account.tenant_id, charges=charges, starts_at=since, until=until)
    left = {name: charges[name].total_nano - shares[name].paid_nano for name in unbilled}
    return [Waiting(name, left[name], since, str(reasons[name])) for name in unbilled if left[name]]


def _why(link: StripeLink | None) -> str:
    """Why a customer's use waits; empty: it does not."""
    if link is None:
        return "not linked"
    if link.state == LinkState.PENDING:
        return "is being linked"
    if link.state == LinkState.FAILED:
        return f"could not be linked: {link.problem}"
    if link.subscription_status not in BILLED:
        return "has no living subscription"
    return ""


def status(*, account: StripeAccount, now: datetime) -> Status:
    """How a tenant's billing stands, and what is missing."""
    links = StripeLink.objects.filter(tenant_id=account.tenant_id)
    rows = Measurement.objects.filter(tenant_id=account.tenant_id)
    steps = missing(account)
    broken = links.filter(state=LinkState.FAILED).count()
    if broken:
        steps.append(f"mend {broken} links that could not be made")
    held_up = waiting(account=account, now=now)
    unlinked = sum(1 for one in held_up if one.reason == "not linked")
    if unlinked:
        steps.append(f"link {unlinked} customers whose use is billed to nobody")
    pending = rows.filter(state=MeasurementState.PENDING).order_by("created_at").first()
    return Status(
        account=account,
        missing=steps,
        links={state: links.filter(state=state).count() for state in LinkState.values},
        measurements={
            state: rows.filter(state=state).count()
            for state in (MeasurementState.PENDING, MeasurementState.FAILED, MeasurementState.UNCLEAR)
        },
        oldest_pending_at=None if pending is None else pending.created_at,
        waiting=held_up,
    )


def warn_of_waiting(*, account: StripeAccount, now: datetime) -> bool:
    """Tells a tenant of use that has waited for four weeks: Stripe takes nothing that is older than five."""
    held_up = [one for one in waiting(account=account, now=now) if one.since <= now - WARN_AFTER]
    old = Measurement.objects.filter(
        tenant_id=account.tenant_id, state=MeasurementState.PENDING, at__lte=now - WARN_AFTER
    ).exists()
    if not held_up and not old:
        return False
    with transaction.atomic():
        push_failed(
            tenant_id=account.tenant_id,
            about=ids.encode(ids.TENANT, account.tenant_id),
            reason="usage has waited for four weeks and is told to nobody",
            details={
                "customers": str(len(held_up)),
                "amount_usd": to_usd(sum(one.owed_nano for one in held_up)),
            },
            now=now,
        )
    return True


def accounts() -> Iterator[StripeAccount]:
    """Every account that is not disconnected, in order."""
    rows = StripeAccount.objects.exclude(state=AccountState.DISCONNECTED)
    yield from rows.order_by("tenant_id").iterator(chunk_size=200)
