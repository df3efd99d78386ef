"""Passes over customers of whom nothing new is owed, many at once, before the others are frozen one by one.

Most customers use nothing in most hours, and a look at each by itself costs a score of questions. Here what customers
owe is asked for together, by period; whose outbox says exactly that already is done until the next window closes. Who
differs, or is not plainly in the midst of a subscription's period, is left to `billing.services.freezing`, which alone
writes measurements: nothing is decided here that it would decide otherwise.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Sum

from billing.domain.pushing import closed_until, micro, next_close, owed_by_closed
from billing.models import (
    ACTIVE,
    BILLED,
    BillingPeriod,
    LinkState,
    Measurement,
    MeasurementKind,
    StripeLink,
    Wallet,
)
from billing.services.charges import InvalidPeriod, period_charges
from billing.services.steps import reached

log = logging.getLogger(__name__)

STRETCH_MAX: Final = timedelta(days=4)
"""The longest time without a look that is passed over at once."""

Group = tuple[UUID, datetime, datetime, bool]
"""Periods that are charged in one question: of one tenant, from a start until a time, which is their end or not."""


@dataclass(slots=True)
class _Looked:
    """One customer: its open periods with the time until which they are looked at, and its closed ones."""

    link: StripeLink
    open: list[tuple[BillingPeriod, datetime]] = field(default_factory=list)
    closed: list[BillingPeriod] = field(default_factory=list)

    def groups(self) -> Iterator[tuple[Group, BillingPeriod]]:
        """What is to be asked about it."""
        for period, until in [*self.open, *((each, each.ends_at) for each in self.closed)]:
            whole = until == period.ends_at and period.stripe_ends_at is not None
            yield (self.link.tenant_id, period.starts_at, until, whole), period


def pass_over(*, links: Sequence[UUID], now: datetime, followed: timedelta) -> set[UUID]:
    """Notes of those of some links that owe nothing new that they were looked at; returns them.

    Links that somebody else is at are left out. Raises nothing for periods that cannot be charged.
    """
    with transaction.atomic():
        held = list(
            StripeLink.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
            .filter(
                pk__in=links,
                state=LinkState.LINKED,
                subscription_status__in=BILLED,
                period_ends_at__gt=now,
                next_freeze_at__lte=now,
            )
            .select_related("customer")
            .order_by("pk")
        )
        looked = _looked(held, now, followed)
        nano = _owed(looked, now)
        told = _Told(looked)
        quiet = [each for each in looked if _is_quiet(each, nano, told)]
        _note(quiet, nano, now)
        reached("passed over")
    return {each.link.pk for each in quiet}


def _looked(links: Sequence[StripeLink], now: datetime, followed: timedelta) -> list[_Looked]:
    """Those that have a plain period and no wallet, with what is to be looked at."""
    if not links:
        return []
    # Whether what a wallet pays is known up to here is asked of each by itself.
    wallets = set(
        Wallet.objects.filter(
            tenant_id__in={link.tenant_id for link in links},
            customer__in=[link.customer.external_id for link in links],
        ).values_list("tenant_id", "customer")
    )
    periods: dict[tuple[UUID, UUID], list[BillingPeriod]] = defaultdict(list)
    rows = BillingPeriod.objects.filter(
        tenant_id__in={link.tenant_id for link in links},
        customer_id__in=[link.customer_id for link in links],
    )
    for period in rows.order_by("starts_at"):
        periods[period.tenant_id, period.customer_id].append(period)
    found = []
    for link in links:
        own = periods[link.tenant_id, link.customer_id]
        if (link.tenant_id, link.customer.external_id) in wallets or not _plain(link, own):
            continue
        if (each := _one(link, own, now, followed)) is not None:
            found.append(each)
    return found


def _plain(link: StripeLink, periods: Sequence[BillingPeriod]) -> bool:
    """Whether the customer's last period is its subscription's present one, as both have it."""
    if not periods or (present := periods[-1]).closed_at is not None:
        return False
    return (present.stripe_starts_at, present.stripe_ends_at) == (link.period_starts_at, link.period_ends_at)


def _one(
    link: StripeLink, periods: Sequence[BillingPeriod], now: datetime, followed: timedelta
) -> _Looked | None:
    until = closed_until(now)
    if link.frozen_until is None or until <= periods[-1].starts_at or until - link.frozen_until > STRETCH_MAX:
        return None
    found = _Looked(link)
    for period in periods:
        if period.closed_at is None:
            found.open.append((period, min(until, period.ends_at)))
        elif period.invoiced_micro is not None and period.ends_at >= now - followed:
            found.closed.append(period)
    return found


def _owed(looked: Sequence[_Looked], now: datetime) -> dict[UUID, int]:
    """What is owed by period, in nano-USD; without those of which more may come, and those that cannot be charged."""
    groups: dict[Group, dict[str, UUID]] = defaultdict(dict)
    for each in looked:
        for group, period in each.groups():
            groups[group][each.link.customer.external_id] = period.pk
    found: dict[UUID, int] = {}
    for (tenant_id, starts_at, until, whole), periods in groups.items():
        try:
            # A reading that took too long loses this savepoint alone.
            with transaction.atomic():
                charges = period_charges(
                    tenant_id=tenant_id,
                    customers=sorted(periods),
                    starts_at=starts_at,
                    until=until,
                    now=now,
                    final=whole,
                )
        except InvalidPeriod as error:
            log.info("%d customers are looked at one by one: %s", len(periods), error)
            continue
        for name, charge in charges.items():
            if charge.complete_through is not None and charge.complete_through >= until:
                found[periods[name]] = charge.total_nano
    return found


class _Told:
    """What the outbox says of periods: told of their use, carried into them, and carried out of them."""

    def __init__(self, looked: Sequence[_Looked]) -> None:
        wanted = [period.pk for each in looked for _, period in each.groups()]
        active = Measurement.objects.filter(state__in=ACTIVE)
        self._told = {
            (row["period_id"], row["kind"]): row["total"]
            for row in active.filter(period__in=wanted)
            .values("period_id", "kind")
            .annotate(total=Sum("value_micro"))
            .order_by()
        }
        self._out = {
            row["carried_from_id"]: row["total"]
            for row in active.filter(carried_from__in=wanted)
            .values("carried_from_id")
            .annotate(total=Sum("value_micro"))
            .order_by()
        }

    def own(self, period: BillingPeriod) -> int:
        """Of its use."""
        return int(self._told.get((period.pk, MeasurementKind.USAGE), 0))

    def carried_in(self, period: BillingPeriod) -> int:
        """Of earlier periods' use."""
        return int(self._told.get((period.pk, MeasurementKind.CARRY), 0))

    def carried_out(self, period: BillingPeriod) -> int:
        """Of its use, in later periods."""
        return int(self._out.get(period.pk, 0))


def _is_quiet(each: _Looked, nano: Mapping[UUID, int], told: _Told) -> bool:
    for period, _ in each.open:
        if period.pk not in nano or micro(nano[period.pk]) != told.own(period):
            return False
    for period in each.closed:
        if period.pk not in nano:
            return False
        left = owed_by_closed(
            owed_micro=micro(nano[period.pk]),
            carried_in_micro=told.carried_in(period),
            invoiced_micro=period.invoiced_micro or 0,
        )
        if left != told.carried_out(period):
            return False
    return True


def _note(quiet: Sequence[_Looked], nano: Mapping[UUID, int], now: datetime) -> None:
    """Writes how far each was looked at, as a look at each by itself does."""
    changed: list[BillingPeriod] = []
    for each in quiet:
        for (_, _, until, _), period in each.groups():
            if (period.owed_nano, period.owed_until) != (nano[period.pk], until):
                period.owed_nano, period.owed_until = nano[period.pk], until
                changed.append(period)
        for period, until in each.open:
            if until > period.starts_at:
                each.link.frozen_until = max(each.link.frozen_until or until, until)
        each.link.next_freeze_at = next_close(now)
    BillingPeriod.objects.bulk_update(changed, ["owed_nano", "owed_until"])
    StripeLink.objects.bulk_update([each.link for each in quiet], ["frozen_until", "next_freeze_at"])
