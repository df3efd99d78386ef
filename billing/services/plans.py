"""Each tenant's own plan with noburn: which it is, what was counted, and what follows from the count.

`NOBURN_PLANS=hosted` turns plans on; without it nothing is counted and nothing is limited. Counting reads the sums of
usage, never the path of a call: a gateway learns that calls are refused from its policy. ADR 0037.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from alerts.services.alerts import NewAlert, raise_alerts
from billing.domain.plans import FREE, Offer, Standing, month_of, offer_at, offer_by_key, whole_hours
from billing.models import PlanAccount, PlanCursor
from billing.queries import plan_counts
from noburn.kit import ids
from tenants.models import Tenant
from tenants.services.suspension import refuse_calls
from tenants.services.tenants import lock_tenant

HOSTED: Final = "hosted"
BATCH: Final = 200
RECOUNT: Final = timedelta(hours=1)
"""How long a count stands that no entry has touched: a period may have ended meanwhile."""

ACTOR: Final = "system:plans"


def plans_are_on() -> bool:
    """Whether this installation sells plans."""
    return bool(settings.NOBURN_PLANS == HOSTED)


def free_offer(at: datetime) -> Offer:
    """What a tenant has that pays nothing."""
    found = offer_at(FREE, at)
    assert found is not None
    return found


def offer_of(account: PlanAccount, now: datetime) -> Offer:
    """The offer by which a tenant is counted."""
    return offer_by_key(account.offer) or free_offer(now)


def period_of(account: PlanAccount, now: datetime) -> tuple[datetime, datetime]:
    """The period that is counted: the subscription's, else the calendar month."""
    starts_at, ends_at = account.period_starts_at, account.period_ends_at
    if account.subscription and starts_at is not None and ends_at is not None and starts_at <= now < ends_at:
        return starts_at, ends_at
    return month_of(now)


def ensure_account(*, tenant_id: UUID, now: datetime) -> PlanAccount:
    """Returns a tenant's plan, the free one if it has none yet. Raises TenantNotFound."""
    found = PlanAccount.objects.filter(tenant_id=tenant_id).first()
    if found is not None:
        return found
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        made, _ = PlanAccount.objects.get_or_create(
            tenant_id=tenant_id,
            defaults={
                "id": ids.new_uuid(now),
                "offer": free_offer(now).key,
                "created_at": now,
                "updated_at": now,
            },
        )
    return made


def count_due(*, now: datetime) -> int:
    """Counts for tenants with new entries, and for some that were last counted long ago; returns how many that were."""
    if not plans_are_on():
        return 0
    until = plan_counts.rolled_to()
    cursor, _ = PlanCursor.objects.get_or_create(only_row=True)
    touched: Iterable[UUID] = ()
    if until > cursor.position:
        touched = plan_counts.tenants_between(since=cursor.position, until=until)
    for tenant_id in touched:
        count(tenant_id=tenant_id, now=now)
    # Moved last: whoever dies before looks at the same entries again, and counting twice changes nothing.
    PlanCursor.objects.filter(only_row=True, position=cursor.position).update(position=until)
    stale = list(
        PlanAccount.objects.filter(counted_at__lt=now - RECOUNT)
        .order_by("counted_at", "pk")
        .values_list("tenant_id", flat=True)[:BATCH]
    )
    for tenant_id in stale:
        count(tenant_id=tenant_id, now=now)
    return len(stale) if len(stale) == BATCH else 0


def count(*, tenant_id: UUID, now: datetime) -> PlanAccount:
    """Counts a tenant's requests of the present period, warns, and refuses calls or lets them through again.

    Repeating it changes nothing. Raises TenantNotFound.
    """
    ensure_account(tenant_id=tenant_id, now=now)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        account = PlanAccount.objects.select_for_update().get(tenant_id=tenant_id)
        offer = offer_of(account, now)
        starts_at, ends_at = period_of(account, now)
        since, until = whole_hours(starts_at, ends_at)
        account.counted = plan_counts.requests_in(tenant_id=tenant_id, starts_at=since, ends_at=until)
        account.counted_from, account.counted_to, account.counted_at = starts_at, ends_at, now
        refused = plans_are_on() and offer.standing(account.counted) is Standing.REFUSED
        account.refused_until = ends_at if refused else None
        account.save(update_fields=["counted", "counted_from", "counted_to", "counted_at", "refused_until"])
        _warn(account, offer, starts_at, now)
        refuse_calls(tenant_id=tenant_id, until=account.refused_until, actor=ACTOR, now=now)
    return account


def _warn(account: PlanAccount, offer: Offer, starts_at: datetime, now: datetime) -> None:
    """Tells of the shares that the count has passed, each once a period and offer."""
    if not plans_are_on():
        return
    passed = offer.passed(account.counted)
    alerts = [
        NewAlert(
            tenant_id=account.tenant_id,
            kind="plan_requests",
            dedupe_key=f"plan_requests:{offer.key}:{starts_at:%Y-%m-%dT%H:%M}:{share}",
            subject=ids.encode(ids.TENANT, account.tenant_id),
            details={
                "plan": offer.name,
                "percent": str(share),
                "requests": str(account.counted),
                "included": str(offer.requests),
                **_refusal(account, offer, share),
            },
            # Of several that were passed at once the highest is told.
            silent=share != passed[-1],
        )
        for share in passed
    ]
    if alerts:
        raise_alerts(alerts=alerts, now=now)


def _refusal(account: PlanAccount, offer: Offer, share: int) -> dict[str, str]:
    if offer.overage_cents is not None or account.refused_until is None or share <= 100:
        return {}
    return {"refused": "yes", "refused_until": account.refused_until.isoformat()}


def tenant_name(tenant_id: UUID) -> str:
    """What a tenant is called, at Stripe too. Raises Tenant.DoesNotExist."""
    return Tenant.objects.values_list("name", flat=True).get(pk=tenant_id)
