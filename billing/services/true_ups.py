"""True-ups: what a wallet was charged for its calls beyond its customer's charge for the period goes back into it.

Calls are burnt one by one at the dearest marginal rate, so included amounts and lower tiers show in the sum of a period
alone. That is looked at once an hour, up to the last closed one. What went back of a period stands in a row of its own,
written in the transaction of the posting: every look posts the difference to it, which may be below zero after a late
settlement or a re-rating, and a look at what did not change posts nothing. docs/billing.md, "Wallets"; ADR 0039.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import OperationalError, transaction

from billing.domain.pushing import closed_until, next_close
from billing.domain.wallets import Purse
from billing.models import CreditGrant, PostingKind, Wallet, WalletHold, WalletTrueUp
from billing.queries.wallet_charges import burnt_as_summed
from billing.services.charges import InvalidPeriod, period_charges
from billing.services.journal import lock_wallet, post, purse_of, tell
from billing.services.periods import Span, periods_of
from billing.services.steps import reached
from billing.services.wallet_shares import NOTHING, WalletShare, shares_in
from billing.services.wallets import GRANTS_OPEN_MAX, SYSTEM, no_longer_low
from noburn.kit import ids

log = logging.getLogger(__name__)

FOLLOWED: Final = timedelta(days=70)
"""How far back periods are looked at: from the month on in which that is."""

EVERY: Final = timedelta(days=1)
"""When a wallet is looked at of which nothing was burnt: its customer's calls of before may have changed."""

RETRY: Final = timedelta(minutes=5)
WALLETS_AT_ONCE: Final = 50

Share = tuple[datetime, WalletShare]
"""What a wallet pays of a period until a time."""


@dataclass(frozen=True, slots=True)
class TruedUp:
    """What one look at a wallet did. `waits`: settlements of a period are not all both summed and burnt."""

    postings: int = 0
    waits: bool = False


def true_up_due(*, now: datetime, limit: int = WALLETS_AT_ONCE, tenant_id: UUID | None = None) -> int:
    """Looks at up to `limit` wallets that are due; returns how many. Raises OperationalError.

    `tenant_id`: those of one tenant alone.
    """
    due = Wallet.objects.filter(true_up_at__lte=now)
    if tenant_id is not None:
        due = due.filter(tenant_id=tenant_id)
    found = list(due.order_by("true_up_at", "pk").values_list("tenant_id", "pk")[:limit])
    for of_tenant, wallet_id in found:
        try:
            true_up(tenant_id=of_tenant, wallet_id=wallet_id, now=now)
        except OperationalError:
            raise
        except Exception:
            # One wallet's trouble must not keep the others from their true-ups.
            log.exception("wallet %s was not trued up", wallet_id)
            Wallet.objects.filter(pk=wallet_id).update(true_up_at=now + RETRY)
    return len(found)


def true_up(*, tenant_id: UUID, wallet_id: UUID, now: datetime) -> TruedUp:
    """Brings what went back of each period of a wallet to what is to be there, up to the last closed hour.

    All of it or nothing; again, it changes nothing. Raises WalletNotFound.
    """
    with transaction.atomic():
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        until = closed_until(now)
        spans = periods_of(
            tenant_id=tenant_id,
            customer=wallet.customer,
            since=max(wallet.created_at, now - FOLLOWED),
            until=until,
        )
        known = {
            row.starts_at: row
            for row in WalletTrueUp.objects.filter(
                tenant_id=tenant_id, wallet_id=wallet_id, starts_at__gte=spans[0].starts_at
            )
        }
        waits, wanted = False, dict[datetime, Share]()
        for span in spans:
            if until <= span.starts_at:
                break
            ends_at = min(until, span.ends_at)
            share = _share(wallet, span, ends_at, now)
            if share is None or not share.complete:
                known.pop(span.starts_at, None)
                waits = waits or share is not None
            else:
                wanted[span.starts_at] = ends_at, share
        # Where a period that was told later begins elsewhere, what went back as of the other one is looked at anew.
        wanted |= {starts_at: (starts_at, NOTHING) for starts_at in known if starts_at not in wanted}
        postings = _put_back(wallet, known, wanted, now)
        soon = WalletHold.objects.filter(
            tenant_id=tenant_id, wallet_id=wallet_id, placed_at__gte=until
        ).exists()
        wallet.true_up_at = now + RETRY if waits else next_close(now) if soon else now + EVERY
        wallet.save(update_fields=["true_up_at"])
        reached("trued up")
    return TruedUp(postings, waits)


def _share(wallet: Wallet, span: Span, until: datetime, now: datetime) -> WalletShare | None:
    """What of a period's charge a wallet pays; None where its hours are no longer kept: what went back stands."""
    customer, tenant_id = wallet.customer, wallet.tenant_id
    try:
        # A savepoint: a question that takes too long breaks its own transaction alone.
        with transaction.atomic():
            charge = period_charges(
                tenant_id=tenant_id,
                customers=[customer],
                starts_at=span.starts_at,
                until=until,
                now=now,
                # As the outbox has it: hours without a subscription are no period to round.
                final=until == span.ends_at and span.stripe_ends_at is not None,
            )[customer]
    except InvalidPeriod as error:
        log.warning("the period of wallet %s from %s on was left out: %s", wallet.pk, span.starts_at, error)
        return None
    share = shares_in(tenant_id=tenant_id, charges={customer: charge}, starts_at=span.starts_at, until=until)[
        customer
    ]
    through = charge.complete_through
    complete = share.charged_nano == 0 or (
        through is not None
        and through >= until
        and burnt_as_summed(tenant_id=tenant_id, wallet_id=wallet.pk, since=span.starts_at, until=until)
    )
    return WalletShare(charged_nano=share.charged_nano, paid_nano=share.paid_nano, complete=complete)


def _put_back(
    wallet: Wallet, known: Mapping[datetime, WalletTrueUp], wanted: Mapping[datetime, Share], now: datetime
) -> int:
    """Posts by how much each period differs from what went back of it before; returns how many postings that took."""
    returned = {starts_at: row.returned_nano for starts_at, row in known.items()}
    more = {
        starts_at: share.surplus_nano - returned.get(starts_at, 0)
        for starts_at, (_, share) in wanted.items()
        if share.surplus_nano != returned.get(starts_at, 0)
    }
    if not more:
        return 0
    purse = _purse(wallet)
    # What goes back comes first: where a period was divided, the other part is not taken off new credit.
    for starts_at in sorted(more, key=lambda at: (more[at] < 0, at)):
        until, share = wanted[starts_at]
        if more[starts_at] > 0:
            purse.restore(more[starts_at], now=now, out_of="revenue")
        else:
            purse.draw(-more[starts_at], placed_at=now, into="revenue")
        note = f"{starts_at:%Y-%m-%dT%H:%MZ} to {until:%Y-%m-%dT%H:%MZ}"
        post(wallet, purse, kind=PostingKind.TRUE_UP, actor=SYSTEM, now=now, note=note)
        figures = {
            "until": until,
            "charged_nano": share.charged_nano,
            "paid_nano": share.paid_nano,
            "returned_nano": share.surplus_nano,
            "changed_at": now,
        }
        WalletTrueUp.objects.update_or_create(
            tenant_id=wallet.tenant_id,
            wallet_id=wallet.pk,
            starts_at=starts_at,
            defaults=figures,
            create_defaults={**figures, "id": ids.new_uuid(now)},
        )
    no_longer_low(wallet, purse.balance(now))
    tell(wallet, purse.credits.values(), now=now)
    return len(more)


def _purse(wallet: Wallet) -> Purse:
    """The credit that is left, and the newest of what was burnt, to which something can go back."""
    grants = CreditGrant.objects.filter(tenant_id=wallet.tenant_id, wallet_id=wallet.pk)
    left = grants.filter(remaining_nano__gt=0).count()
    burnt = grants.filter(remaining_nano=0).order_by("-created_at", "-pk")
    return purse_of(wallet, also=list(burnt.values_list("pk", flat=True)[: max(0, GRANTS_OPEN_MAX - left)]))
