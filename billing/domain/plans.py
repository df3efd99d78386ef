"""noburn's own plans: what each includes and costs, from when on, and what a count of requests means under one.

A request is a call that noburn let through, with a hold of its own or from a lease, once it is settled or presumed
spent; one that is voided never reached a provider and does not count. The catalogue is public and dated: an offer is
never altered, a later one follows it, and who has the earlier one keeps it until they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from billing.domain.pushing import hour_of

WARN_PERCENTS: Final = (80, 100)
"""At which shares of what is included a tenant is warned."""

GRACE_PERCENT: Final = 20
"""How far beyond its requests a plan without overage may go before calls are refused. What is counted is late by as
long as a call lives and a few seconds; this is what makes that nobody's loss."""

TRIAL_DAYS: Final = 14
FREE: Final = "free"
UNLIMITED: Final = "self_hosted"


class Standing(StrEnum):
    """Where a count stands: below every warning, warned, over what is included, or refused."""

    OK = "ok"
    NEAR = "near"
    OVER = "over"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Offer:
    """One plan as it is sold from a time on. `base_cents` a month; `overage_cents` for each request beyond.

    Without overage calls are refused beyond the grace.
    """

    code: str
    name: str
    since: datetime
    requests: int
    base_cents: int
    overage_cents: Decimal | None

    @property
    def key(self) -> str:
        """Names the offer for ever, at Stripe too: `team_2026_12`."""
        return f"{self.code}_{self.since:%Y_%m}"

    @property
    def refused_from(self) -> int | None:
        """The count at which calls are refused; None where more is paid for instead."""
        if self.overage_cents is not None:
            return None
        return self.requests + self.requests * GRACE_PERCENT // 100

    def standing(self, count: int) -> Standing:
        """Where a count stands under this offer."""
        limit = self.refused_from
        if limit is not None and count >= limit:
            return Standing.REFUSED
        if count >= self.requests:
            return Standing.OVER
        return Standing.NEAR if count * 100 >= self.requests * WARN_PERCENTS[0] else Standing.OK

    def passed(self, count: int) -> tuple[int, ...]:
        """The percentages of what is included that a count has reached, the refusal's among them."""
        shares = (*WARN_PERCENTS, 100 + GRACE_PERCENT) if self.overage_cents is None else WARN_PERCENTS
        return tuple(share for share in shares if count * 100 >= self.requests * share)

    def overage(self, count: int) -> int:
        """What the requests beyond cost, in whole cents, halves up as Stripe rounds them."""
        if self.overage_cents is None:
            return 0
        return int(self.overage_cents * max(0, count - self.requests) + Decimal("0.5"))


_FIRST: Final = datetime(2026, 12, 1, tzinfo=UTC)

CATALOGUE: Final = (
    Offer(FREE, "Free", _FIRST, 50_000, 0, None),
    Offer("team", "Team", _FIRST, 1_000_000, 4_900, Decimal("0.005")),
    Offer("scale", "Scale", _FIRST, 20_000_000, 49_900, Decimal("0.002")),
)
"""Every offer that was ever made. Append; never edit."""

CODES: Final = tuple(dict.fromkeys(offer.code for offer in CATALOGUE))


def offers_at(at: datetime) -> tuple[Offer, ...]:
    """What is sold at a time: the latest offer of each plan; before the first one, that."""
    found: dict[str, Offer] = {}
    for offer in sorted(CATALOGUE, key=lambda each: each.since):
        if offer.since <= at or offer.code not in found:
            found[offer.code] = offer
    return tuple(found.values())


def offer_at(code: str, at: datetime) -> Offer | None:
    """One of them by its plan."""
    return next((offer for offer in offers_at(at) if offer.code == code), None)


def offer_by_key(key: str) -> Offer | None:
    """An offer by its name, whether it is still sold or not."""
    return next((offer for offer in CATALOGUE if offer.key == key), None)


def month_of(at: datetime) -> tuple[datetime, datetime]:
    """The calendar month (UTC) in which the free plan counts."""
    starts_at = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return starts_at, (starts_at + timedelta(days=32)).replace(day=1)


def forecast(count: int, starts_at: datetime, ends_at: datetime, now: datetime) -> int:
    """What a count will be at the period's end if it goes on as it did: by the second, rounded down."""
    gone = max(1, int((min(now, ends_at) - starts_at).total_seconds()))
    return count * int((ends_at - starts_at).total_seconds()) // gone


def whole_hours(starts_at: datetime, ends_at: datetime) -> tuple[datetime, datetime]:
    """The hours whose requests count in a period: one in whose midst a period begins counts for it whole.

    So does Stripe, which is told of an hour as of its end.
    """
    return hour_of(starts_at), hour_of(ends_at)
