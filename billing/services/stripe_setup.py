"""Set-up of an account: checks the key, and makes meter, product and price, each found again when it is there.

Done by workers, a step at a time, so that a request of the API never waits for Stripe and a worker may be killed
anywhere: what was made is found by its name the next time.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from billing.domain.pushing import backoff_seconds
from billing.domain.sink import SinkBusy, SinkError, SinkUnavailable
from billing.models import AccountState, LinkState, StripeAccount, StripeLink
from billing.services.alerting import push_failed
from billing.services.steps import reached
from billing.services.stripe_access import NoPlatformKey, access_of
from billing.stores import due
from billing.stripe import setup
from noburn.kit import ids
from noburn.kit.sealing import Unreadable

log = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=5)
"""For how long an account that is set up is nobody else's: longer than all its requests may take."""

METER_EVENT: Final = "noburn_usage_micro_usd"
"""The meter's event name. One a tenant's account; of several tenants in one account all share the meter."""

_chance = random.SystemRandom().random


def set_up_due(*, now: datetime, chance: Callable[[], float] = _chance) -> int:
    """Sets up one account that waits for it; returns how many there were, 0 or 1."""
    row = due.take(StripeAccount.objects.filter(state=AccountState.PENDING), now=now, lease=LEASE)
    if row is None:
        return 0
    set_up(account_id=row.pk, version=row.version, now=now, chance=chance())
    return 1


def set_up(*, account_id: UUID, version: int, now: datetime, chance: float = 0.0) -> None:
    """Sets one account up. What Stripe refuses stops it until a person asks again; what fails is tried again."""
    row = StripeAccount.objects.get(pk=account_id)
    try:
        made = _make(row)
    except (SinkUnavailable, SinkBusy) as error:
        again_at = now + timedelta(seconds=backoff_seconds(tries=row.tries, chance=chance))
        _write(row, version, now, next_attempt_at=again_at, problem=str(error)[:300])
        return
    except (SinkError, NoPlatformKey, Unreadable) as error:
        log.warning("set-up of %s was refused: %s", row.pk, error)
        _write(row, version, now, state=AccountState.FAILED, problem=str(error)[:300])
        return
    _write(row, version, now, state=AccountState.READY, problem="", ready_at=now, paused_until=None, **made)
    # Links that waited for the account go on at once.
    StripeLink.objects.filter(tenant_id=row.tenant_id, state=LinkState.PENDING).update(next_attempt_at=now)


def _make(row: StripeAccount) -> dict[str, str]:
    access = access_of(row)
    meter_id = setup.ensure_meter(access, event_name=METER_EVENT, name="noburn usage (micro-USD)")
    reached("meter made")
    suffix = ids.encode(ids.TENANT, row.tenant_id)
    product_id = setup.ensure_product(access, product_id=f"noburn_usage_{suffix}", name="LLM usage")
    reached("product made")
    price_id = setup.ensure_price(
        access, lookup_key=f"noburn_usage_{suffix}", product_id=product_id, meter_id=meter_id
    )
    reached("price made")
    return {
        "meter_id": meter_id,
        "meter_event": METER_EVENT,
        "product_id": product_id,
        "price_id": price_id,
    }


def _write(row: StripeAccount, version: int, now: datetime, **fields: object) -> None:
    """Writes what became of it, unless the account was changed meanwhile: then what was found out is out of date."""
    StripeAccount.objects.filter(pk=row.pk, version=version, state=AccountState.PENDING).update(
        updated_at=now, **fields
    )


def key_refused(*, account: StripeAccount, problem: str, now: datetime) -> None:
    """Stops an account whose key Stripe no longer takes, and tells the tenant; nothing in the outbox is lost."""
    with transaction.atomic():
        changed = StripeAccount.objects.filter(
            pk=account.pk, version=account.version, state=AccountState.READY
        ).update(state=AccountState.FAILED, problem=problem[:300], updated_at=now)
        if changed:
            push_failed(
                tenant_id=account.tenant_id,
                about=ids.encode(ids.STRIPE_ACCOUNT, account.pk),
                reason=problem,
                now=now,
            )
