"""Billing periods: which hours of a customer's use go on which invoice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from billing.domain.pushing import HOUR, hour_of, month_of
from billing.models import BillingPeriod, StripeAccount, StripeLink
from noburn.kit import ids

MONTHS_MAX: Final = 24
"""The most calendar months that a customer without a subscription may have waited for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Hours that belong to one period; the second pair is Stripe's, where there is a subscription."""

    starts_at: datetime
    ends_at: datetime
    stripe_starts_at: datetime | None = None
    stripe_ends_at: datetime | None = None


def ensure_periods(*, account: StripeAccount, link: StripeLink, now: datetime) -> list[BillingPeriod]:
    """Returns the customer's periods in order, with those made that are missing up to the subscription's present one.

    A period's boundary is Stripe's, moved back to the full hour: the hour in which it lies goes on the next invoice,
    and the last window of a period is told before the period ends. Hours before a subscription, or between two, are
    periods of their own, closed from the start: there is no invoice that could take them, so they are carried. Called
    under the link's lock.
    """
    held = list(
        BillingPeriod.objects.filter(tenant_id=link.tenant_id, customer_id=link.customer_id).order_by(
            "starts_at"
        )
    )
    if link.period_starts_at is None or link.period_ends_at is None:
        return held
    begins, ends = hour_of(link.period_starts_at), hour_of(link.period_ends_at)
    if held and (present := held[-1]).stripe_starts_at == link.period_starts_at:
        if present.stripe_ends_at != link.period_ends_at:
            _move_end(present, link, ends)
        return held
    if held and held[-1].closed_at is None and held[-1].ends_at > begins:
        # Another subscription took over before the period of the one before was over.
        _cut(held[-1], link, begins)
    covered = held[-1].ends_at if held else account.billed_from
    if covered >= ends:
        return held
    missing = [
        *_gap(covered, begins),
        Span(max(covered, begins), ends, link.period_starts_at, link.period_ends_at),
    ]
    made = [_made(link, span, now) for span in missing if span.starts_at < span.ends_at]
    return [*held, *BillingPeriod.objects.bulk_create(made)]


def periods_of(*, tenant_id: UUID, customer: str, since: datetime, until: datetime) -> list[Span]:
    """Returns the periods of a customer's use from the month of `since` on, the one that `until` is in included.

    Stripe's, as they were made; calendar months (UTC) before, between and after them, as `ensure_periods` would make
    them. So a period's beginning stays while its end may move, and later ones may come to lie within a month.
    """
    covered, ends_at = month_of(since)[0], month_of(until)[1]
    made = BillingPeriod.objects.filter(
        tenant_id=tenant_id, customer__external_id=customer, ends_at__gt=covered
    ).order_by("starts_at")
    found: list[Span] = []
    for period in made:
        found += _gap(covered, period.starts_at)
        found.append(Span(period.starts_at, period.ends_at, period.stripe_starts_at, period.stripe_ends_at))
        covered = period.ends_at
    return [*found, *_gap(covered, ends_at)]


def _gap(since: datetime, until: datetime) -> list[Span]:
    """Hours without a subscription, by calendar months."""
    spans: list[Span] = []
    while since < until and len(spans) < MONTHS_MAX:
        ends_at = min(month_of(since)[1], until)
        spans.append(Span(since, ends_at))
        since = ends_at
    return spans


def _made(link: StripeLink, span: Span, now: datetime) -> BillingPeriod:
    without = span.stripe_ends_at is None
    return BillingPeriod(
        id=ids.new_uuid(now),
        tenant_id=link.tenant_id,
        customer_id=link.customer_id,
        starts_at=span.starts_at,
        ends_at=span.ends_at,
        stripe_starts_at=span.stripe_starts_at,
        stripe_ends_at=span.stripe_ends_at,
        closed_at=now if without else None,
        invoiced_micro=0 if without else None,
    )


def _cut(present: BillingPeriod, link: StripeLink, begins: datetime) -> None:
    present.ends_at = max(begins, link.frozen_until or begins, present.starts_at + HOUR)
    present.save(update_fields=["ends_at"])


def _move_end(present: BillingPeriod, link: StripeLink, ends: datetime) -> None:
    """Follows a subscription whose present period was made longer or shorter, but never below what was told."""
    told = link.frozen_until or present.starts_at
    present.stripe_ends_at = link.period_ends_at
    present.ends_at = max(ends, told)
    if present.starts_at < present.ends_at:
        present.save(update_fields=["stripe_ends_at", "ends_at"])
