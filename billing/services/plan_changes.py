"""Buying a plan, changing it and leaving it: Stripe's pages and its arithmetic, and what Stripe then says is so.

Nothing here decides by itself what a tenant has: it asks Stripe, and writes down what Stripe answers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction

from alerts.services.alerts import raise_alert
from billing.domain.plans import CODES, FREE, Offer, offer_at, offer_by_key
from billing.domain.sink import SinkMissing
from billing.models import PlanAccount, PlanStatus
from billing.services.plans import count, ensure_account, free_offer, plans_are_on, tenant_name
from billing.services.stripe_access import platform_access
from billing.stripe import plans as edge
from billing.stripe.plans import PlanSubscription, Preview
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from tenants.services import audit
from tenants.services.tenants import lock_tenant

LIVING: Final = {
    "trialing": PlanStatus.TRIALING,
    "active": PlanStatus.ACTIVE,
    "past_due": PlanStatus.PAST_DUE,
}
"""States of a subscription in which a tenant has what it pays for; in every other one it has the free plan."""

NONE_HERE: Final = "this installation is self-hosted: nothing is limited and nothing is sold"


class NoSubscription(Invalid):
    """The tenant pays for no plan, so there is nothing to change."""

    def __init__(self) -> None:
        super().__init__([FieldError("plan", "there is no paid plan yet: begin with checkout")])


def _offer(code: str, now: datetime, *, paid: bool = True) -> Offer:
    if not plans_are_on():
        raise Invalid([FieldError("plan", NONE_HERE)])
    found = offer_at(code, now)
    if found is None or (paid and code == FREE):
        known = ", ".join(each for each in CODES if not paid or each != FREE)
        raise Invalid([FieldError("plan", f"must be one of {known}")])
    return found


def checkout(
    *,
    tenant_id: UUID,
    plan: str,
    success_url: str,
    cancel_url: str,
    key: str,
    now: datetime,
) -> tuple[str, str]:
    """Opens Checkout for a plan; returns (session, address). A first one has a trial. Raises Invalid, SinkError."""
    offer = _offer(plan, now)
    account = _customer(tenant_id, now)
    if account.subscription:
        raise Invalid([FieldError("plan", "there is a paid plan already: change it, or use the portal")])
    return edge.create_checkout(
        platform_access(),
        offer=offer,
        customer=account.stripe_customer,
        tenant=ids.encode(ids.TENANT, tenant_id),
        trial=account.trial_used_at is None,
        success_url=success_url,
        cancel_url=cancel_url,
        key=f"nb:plan-checkout:{tenant_id}:{key}"[:255],
    )


def portal(*, tenant_id: UUID, return_url: str, now: datetime) -> str:
    """Opens the billing portal: invoices, cards, leaving. Raises Invalid, SinkError."""
    if not plans_are_on():
        raise Invalid([FieldError("plan", NONE_HERE)])
    account = _customer(tenant_id, now)
    return edge.create_portal(platform_access(), customer=account.stripe_customer, return_url=return_url)


def preview(*, tenant_id: UUID, plan: str, now: datetime) -> Preview:
    """What a change to a plan would cost at once. Raises Invalid, NoSubscription, SinkError."""
    offer = _offer(plan, now)
    return edge.preview_change(platform_access(), _held(tenant_id), offer)


def change(*, tenant_id: UUID, plan: str, key: str, actor: str, now: datetime) -> PlanAccount:
    """Moves to another paid plan at once, prorated; to the free one at the end of what was paid.

    Raises Invalid, NoSubscription, SinkError.
    """
    offer = _offer(plan, now, paid=False)
    held, access = _held(tenant_id), platform_access()
    request = f"nb:plan-change:{tenant_id}:{key}"[:255]
    if offer.code == FREE:
        found = edge.end_with_period(access, held, key=request)
    else:
        found = edge.change_offer(access, held, offer, key=request)
    with transaction.atomic():
        # A repeated request finds it done, and is not told of twice.
        if (held.offer, held.cancel_at) != (found.offer, found.cancel_at):
            audit.record(
                tenant_id=tenant_id,
                actor=actor,
                action="plan.change",
                object=ids.encode(ids.TENANT, tenant_id),
                before={"offer": held.offer},
                after={"offer": offer.key},
                now=now,
            )
        return keep(found, tenant_id=tenant_id, now=now)


def _held(tenant_id: UUID) -> PlanSubscription:
    account = PlanAccount.objects.filter(tenant_id=tenant_id).first()
    if account is None or not account.subscription:
        raise NoSubscription
    return edge.read_plan(platform_access(), subscription=account.subscription)


def _customer(tenant_id: UUID, now: datetime) -> PlanAccount:
    """The tenant's plan with a customer at Stripe, made if there is none. Raises SinkError."""
    account = ensure_account(tenant_id=tenant_id, now=now)
    if account.stripe_customer:
        return account
    made = edge.create_plan_customer(
        platform_access(), tenant=ids.encode(ids.TENANT, tenant_id), name=tenant_name(tenant_id)
    )
    PlanAccount.objects.filter(pk=account.pk, stripe_customer="").update(stripe_customer=made, updated_at=now)
    return PlanAccount.objects.get(pk=account.pk)


def refresh(*, customer: str, subscription: str, now: datetime) -> PlanAccount | None:
    """Reads a subscription of a tenant's plan and writes down how it stands; None if it is nobody's here.

    Raises SinkError.
    """
    account = PlanAccount.objects.filter(stripe_customer=customer).first()
    if account is None:
        return None
    found = edge.read_plan(platform_access(), subscription=subscription)
    if found.customer != account.stripe_customer:
        raise SinkMissing(f"{subscription} is another customer's")
    return keep(found, tenant_id=account.tenant_id, now=now)


def keep(found: PlanSubscription, *, tenant_id: UUID, now: datetime) -> PlanAccount:
    """Writes down how a subscription stands, and counts by it. An ended one that was followed by another is no news."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        account = PlanAccount.objects.select_for_update().get(tenant_id=tenant_id)
        offer, status = offer_by_key(found.offer), LIVING.get(found.status)
        if status is None or offer is None:
            if account.subscription in ("", found.id):
                _free(account, now)
        else:
            if account.subscription != found.id:
                account.subscribed_at = found.period_starts_at
            account.offer, account.status, account.subscription = offer.key, status, found.id
            account.meter_event = edge.METER
            account.period_starts_at, account.period_ends_at = found.period_starts_at, found.period_ends_at
            account.trial_ends_at, account.cancel_at = found.trial_ends_at, found.cancel_at
            account.trial_used_at = account.trial_used_at or now
            account.next_report_at = now
        account.version += 1
        account.updated_at = now
        account.save()
    return count(tenant_id=tenant_id, now=now)


def _free(account: PlanAccount, now: datetime) -> None:
    account.offer, account.status, account.subscription = free_offer(now).key, PlanStatus.FREE, ""
    account.period_starts_at = account.period_ends_at = None
    account.trial_ends_at = account.cancel_at = None


def payment_failed(*, customer: str, invoice: str, now: datetime) -> bool:
    """Tells a tenant, once for an invoice, that its plan was not paid; returns whether it is one of ours."""
    account = PlanAccount.objects.filter(stripe_customer=customer).first()
    if account is None:
        return False
    raise_alert(
        tenant_id=account.tenant_id,
        kind="plan_payment",
        dedupe_key=f"plan_payment:{invoice}",
        subject=ids.encode(ids.TENANT, account.tenant_id),
        details={"plan": account.offer, "invoice": invoice},
        now=now,
    )
    return True
