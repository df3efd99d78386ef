"""Payments into wallets: by Checkout, by the saved payment method, and back.

A top-up is written, and committed where money moves without its owner, before anybody is asked for money; its id goes
with the payment. So whatever comes first, the answer or an event, finds it, and one payment is credited once: the grant
carries the payment's id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Q, Sum

from alerts.services.alerts import raise_alert
from billing.domain.payments import CENT_NANO, Order, Paid, Payment, PaymentSink
from billing.domain.sink import SinkConflict, SinkError, SinkRefused, SinkUnavailable
from billing.models import (
    CreditGrant,
    CreditKind,
    JournalLine,
    LinkState,
    PostingKind,
    StripeLink,
    TopUp,
    TopUpKind,
    TopUpState,
    Wallet,
)
from billing.services.journal import WalletNotFound, lock_wallet, post, purse_of
from billing.services.stripe_access import NoPlatformKey, NotConnected, tenant_access
from billing.services.wallets import InvalidWallet, NewGrant, credit, payment_errors
from billing.stripe.payments import StripePayments
from noburn.kit import ids
from noburn.kit.money import to_usd
from noburn.kit.problems import FieldError, Missing
from noburn.kit.sealing import Unreadable
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

SYSTEM: Final = "system"
FAILURES_MAX: Final = 3
"""After so many failed payments in a row nothing is charged any more, until somebody sets the terms again."""

RETRY: Final = timedelta(hours=1)
UNKNOWN_FOR: Final = timedelta(hours=20)
"""For how long the identical request is repeated that nobody answered; keys are kept for a day."""

AGAIN: Final = timedelta(minutes=2)
CHECKOUT_LIFE: Final = timedelta(hours=25)
DUE_MAX: Final = 100

SinkOf = Callable[[UUID], PaymentSink]


class TopUpNotFound(Missing):
    """The wallet has no such top-up."""


def sink_of(tenant_id: UUID) -> PaymentSink:
    """Who takes a tenant's payments. Raises NotConnected, SinkUnavailable."""
    try:
        return StripePayments(tenant_access(tenant_id=tenant_id))
    except (NoPlatformKey, Unreadable) as error:
        raise SinkUnavailable(str(error)) from error


def customer_at_stripe(wallet: Wallet) -> str:
    """The customer of Stripe's who pays for a wallet. Raises InvalidWallet."""
    link = StripeLink.objects.filter(
        tenant_id=wallet.tenant_id, customer__external_id=wallet.customer, state=LinkState.LINKED
    ).first()
    if link is None:
        raise InvalidWallet(
            [FieldError("customer", "is not linked to a customer of Stripe's; link it first")]
        )
    return link.stripe_customer


def order_of(top_up: TopUp, wallet: Wallet) -> Order:
    """A top-up as whoever takes payments is told of it."""
    return Order(
        top_up=ids.encode(ids.TOP_UP, top_up.pk),
        customer=customer_at_stripe(wallet),
        amount_cents=top_up.amount_nano // CENT_NANO,
        description=f"Prepaid credit of {to_usd(top_up.amount_nano)} USD",
    )


def open_checkout(
    *,
    tenant_id: UUID,
    wallet_id: UUID,
    amount_nano: int,
    success_url: str,
    cancel_url: str,
    actor: str,
    now: datetime,
    sinks: SinkOf = sink_of,
) -> TopUp:
    """Opens a page on which a customer pays into its wallet.

    Raises WalletNotFound, InvalidWallet, NotConnected, SinkError.

    The page is known to nobody before this is committed, so nothing can be paid that is not written.
    """
    errors = payment_errors(amount_nano)
    if errors:
        raise InvalidWallet(errors)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        wallet = Wallet.objects.filter(tenant_id=tenant_id, pk=wallet_id).first()
        if wallet is None:
            raise WalletNotFound(str(wallet_id))
        if wallet.closed_at is not None:
            raise InvalidWallet([FieldError("wallet", "is closed; make it again first")])
        top_up = TopUp(
            id=ids.new_uuid(now),
            tenant_id=tenant_id,
            wallet_id=wallet_id,
            kind=TopUpKind.CHECKOUT,
            amount_nano=amount_nano,
            created_by=actor,
            created_at=now,
        )
        page = sinks(tenant_id).create_checkout(
            order_of(top_up, wallet), success_url=success_url, cancel_url=cancel_url
        )
        top_up.checkout_id, top_up.url = page.id, page.url
        top_up.save()
    return top_up


def settle(*, tenant_id: UUID, top_up_id: UUID, payment: Payment, now: datetime) -> TopUp:
    """Writes what became of a payment; one that was paid is credited, once. Raises TopUpNotFound.

    What was paid is what is credited, whatever was asked for. A payment that failed may still be made on the same page.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        top_up = (
            TopUp.objects.select_for_update(no_key=True).filter(tenant_id=tenant_id, pk=top_up_id).first()
        )
        if top_up is None:
            raise TopUpNotFound(str(top_up_id))
        if top_up.state == TopUpState.PAID or payment.state == Paid.OPEN:
            return top_up
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=top_up.wallet_id)
        if payment.state == Paid.PAID:
            _credit(wallet, top_up, payment, now)
        elif top_up.state == TopUpState.PENDING and (
            top_up.kind == TopUpKind.AUTOMATIC or payment.state == Paid.EXPIRED
        ):
            _failed(wallet, top_up, payment, now)
    return top_up


def _credit(wallet: Wallet, top_up: TopUp, payment: Payment, now: datetime) -> None:
    credit(
        wallet,
        grant=NewGrant(
            kind=CreditKind.PAID,
            amount_nano=payment.amount_cents * CENT_NANO,
            reason="top-up",
            payment_id=payment.payment_id,
        ),
        actor=top_up.created_by,
        now=now,
    )
    top_up.state, top_up.payment_id, top_up.finished_at = TopUpState.PAID, payment.payment_id, now
    top_up.failure = ""
    top_up.save(update_fields=["state", "payment_id", "finished_at", "failure"])
    if top_up.kind == TopUpKind.AUTOMATIC and wallet.auto_failures:
        wallet.auto_failures, wallet.auto_retry_at = 0, None
        wallet.save(update_fields=["auto_failures", "auto_retry_at"])


def _failed(wallet: Wallet, top_up: TopUp, payment: Payment, now: datetime) -> None:
    expired = payment.state == Paid.EXPIRED
    top_up.state = TopUpState.EXPIRED if expired else TopUpState.FAILED
    top_up.finished_at, top_up.failure = now, payment.message[:300]
    top_up.save(update_fields=["state", "finished_at", "failure"])
    if top_up.kind != TopUpKind.AUTOMATIC:
        return
    wallet.auto_failures = min(wallet.auto_failures + 1, FAILURES_MAX)
    wallet.auto_retry_at = now + RETRY * 4**wallet.auto_failures
    wallet.save(update_fields=["auto_failures", "auto_retry_at"])
    raise_alert(
        tenant_id=wallet.tenant_id,
        kind="top_up_failed",
        dedupe_key=f"top_up_failed:{top_up.pk}",
        subject=ids.encode(ids.WALLET, wallet.pk),
        details={
            "customer": wallet.customer,
            "amount_usd": to_usd(top_up.amount_nano),
            "reason": top_up.failure,
            "tried_again": "no" if wallet.auto_failures >= FAILURES_MAX else "yes",
        },
        now=now,
    )


def refresh(*, tenant_id: UUID, top_up_id: UUID, now: datetime, sinks: SinkOf = sink_of) -> TopUp:
    """Asks what became of a payment, and writes it. Raises TopUpNotFound, NotConnected, SinkError."""
    top_up = TopUp.objects.select_related("wallet").filter(tenant_id=tenant_id, pk=top_up_id).first()
    if top_up is None:
        raise TopUpNotFound(str(top_up_id))
    if top_up.state == TopUpState.PAID:
        return top_up
    sink = sinks(tenant_id)
    told: Payment | None
    if top_up.kind == TopUpKind.CHECKOUT and top_up.checkout_id:
        told = sink.checkout(top_up.checkout_id)
    else:
        told = sink.payment_of(order_of(top_up, top_up.wallet))
    if told is None:
        return top_up
    return settle(tenant_id=tenant_id, top_up_id=top_up_id, payment=told, now=now)


# --- by themselves ------------------------------------------------------------------------------------------


def begin_automatic(*, now: datetime) -> int:
    """Begins a payment for every wallet that ran low and may be topped up; returns how many. Raises OperationalError."""
    due = (
        Wallet.objects.filter(auto_amount_nano__isnull=False, closed_at__isnull=True)
        .filter(Q(auto_retry_at__isnull=True) | Q(auto_retry_at__lte=now), auto_failures__lt=FAILURES_MAX)
        .exclude(top_ups__kind=TopUpKind.AUTOMATIC, top_ups__state=TopUpState.PENDING)
        .extra(
            where=[
                """billing_wallet.auto_threshold_nano > (SELECT coalesce(sum(g.remaining_nano), 0)
                FROM billing_creditgrant g WHERE g.wallet_id = billing_wallet.id AND g.remaining_nano > 0
                AND g.voided_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > now())) - billing_wallet.owed_nano"""
            ]
        )
        .order_by("pk")
        .values_list("tenant_id", "pk")[:DUE_MAX]
    )
    return sum(_begin(tenant_id, wallet_id, now) for tenant_id, wallet_id in due)


def _begin(tenant_id: UUID, wallet_id: UUID, now: datetime) -> int:
    try:
        with transaction.atomic():
            wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
            amount, most = wallet.auto_amount_nano, wallet.auto_monthly_max_nano
            if (
                amount is None
                or most is None
                or purse_of(wallet).balance(now) >= (wallet.auto_threshold_nano or 0)
            ):
                return 0
            if amount + paid_in_month(wallet, now) > most:
                _ceiling_reached(wallet, most, now)
                return 0
            TopUp.objects.create(
                id=ids.new_uuid(now),
                tenant_id=tenant_id,
                wallet_id=wallet_id,
                kind=TopUpKind.AUTOMATIC,
                amount_nano=amount,
                created_by=SYSTEM,
                created_at=now,
            )
    except IntegrityError:
        # Another worker began one meanwhile.
        return 0
    return 1


def paid_in_month(wallet: Wallet, now: datetime) -> int:
    """What was charged, or may have been, by itself in this month (UTC)."""
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    charged = TopUp.objects.filter(
        tenant_id=wallet.tenant_id,
        wallet_id=wallet.pk,
        kind=TopUpKind.AUTOMATIC,
        state__in=[TopUpState.PENDING, TopUpState.PAID],
        created_at__gte=month,
    )
    return int(charged.aggregate(total=Sum("amount_nano"))["total"] or 0)


def _ceiling_reached(wallet: Wallet, most: int, now: datetime) -> None:
    month = now.astimezone(UTC).strftime("%Y-%m")
    raise_alert(
        tenant_id=wallet.tenant_id,
        kind="wallet_low",
        dedupe_key=f"wallet_ceiling:{wallet.pk}:{month}",
        subject=ids.encode(ids.WALLET, wallet.pk),
        details={
            "customer": wallet.customer,
            "monthly_max_usd": to_usd(most),
            "reason": "automatic top-ups have reached their ceiling of the month",
        },
        now=now,
    )


def charge_due(*, now: datetime, sinks: SinkOf = sink_of) -> int:
    """Charges saved payment methods for payments that were begun; returns how many. Raises OperationalError."""
    due = (
        TopUp.objects.select_related("wallet")
        .filter(kind=TopUpKind.AUTOMATIC, state=TopUpState.PENDING)
        .filter(Q(tried_at__isnull=True) | Q(tried_at__lte=now - AGAIN))
        .order_by("created_at", "pk")[:DUE_MAX]
    )
    tried = 0
    for top_up in due:
        try:
            tried += _charge(top_up, now, sinks)
        except OperationalError:
            raise
        except Exception:
            # It stays pending, and is tried again; the others must not wait for it.
            log.exception("top-up %s could not be charged", top_up.pk)
    return tried


def _charge(top_up: TopUp, now: datetime, sinks: SinkOf) -> int:
    # Whoever moves `tried_at` has it: two workers do not charge at once, though the key would make it one payment.
    mine = TopUp.objects.filter(pk=top_up.pk, state=TopUpState.PENDING, tried_at=top_up.tried_at).update(
        tried_at=now
    )
    if not mine:
        return 0
    told: Payment | None
    try:
        order, sink = order_of(top_up, top_up.wallet), sinks(top_up.tenant_id)
        if now - top_up.created_at < UNKNOWN_FOR:
            told = sink.charge_saved(order)
        else:
            # Its key may be forgotten by now: repeated, it could be a second payment.
            told = sink.payment_of(order) or Payment(state=Paid.FAILED, message="no answer from Stripe")
    except (SinkConflict, InvalidWallet, NotConnected) as error:
        told = Payment(state=Paid.FAILED, message=_said(error))
    except SinkRefused as error:
        told = Payment(state=Paid.FAILED, message=str(error))
    except SinkError as error:
        log.info("top-up %s waits: %s", top_up.pk, error)
        return 1
    settle(tenant_id=top_up.tenant_id, top_up_id=top_up.pk, payment=told, now=now)
    return 1


def _said(error: Exception) -> str:
    if isinstance(error, InvalidWallet):
        return "; ".join(f"{each.field} {each.message}" for each in error.errors)
    return str(error) if isinstance(error, SinkError) else "the tenant has no account at Stripe"


def look_after(*, now: datetime, sinks: SinkOf = sink_of) -> int:
    """Asks for pages that nobody heard of for a day: their events were lost. Returns how many."""
    old = TopUp.objects.filter(
        kind=TopUpKind.CHECKOUT, state=TopUpState.PENDING, created_at__lte=now - CHECKOUT_LIFE
    ).filter(Q(tried_at__isnull=True) | Q(tried_at__lte=now - RETRY))
    asked = 0
    for tenant_id, top_up_id in old.order_by("created_at", "pk").values_list("tenant_id", "pk")[:DUE_MAX]:
        TopUp.objects.filter(pk=top_up_id).update(tried_at=now)
        try:
            refresh(tenant_id=tenant_id, top_up_id=top_up_id, now=now, sinks=sinks)
        except (SinkError, InvalidWallet, NotConnected) as error:
            log.info("top-up %s is not known of: %s", top_up_id, type(error).__name__)
        asked += 1
    return asked


def refund_due(*, now: datetime, sinks: SinkOf = sink_of) -> int:
    """Pays back what was left of paid grants that were voided with a refund, once they lapsed; returns how many."""
    due = CreditGrant.objects.filter(
        refund_wanted=True, refund_id="", ended_at__isnull=False, payment_id__isnull=False
    ).order_by("ended_at", "pk")[:DUE_MAX]
    done = 0
    for grant in due:
        try:
            done += _refund(grant, now, sinks)
        except (SinkError, NotConnected) as error:
            log.warning("grant %s was not refunded: %s", grant.pk, type(error).__name__)
    return done


def _refund(grant: CreditGrant, now: datetime, sinks: SinkOf) -> int:
    returned = JournalLine.objects.filter(
        tenant_id=grant.tenant_id, grant_id=grant.pk, posting__kind=PostingKind.EXPIRE
    ).aggregate(total=Sum("amount_nano"))["total"]
    # Parts of a cent cannot be paid back: they stay on the account of refunds.
    cents = -(returned or 0) // CENT_NANO
    name = "nothing"
    if cents:
        name = sinks(grant.tenant_id).refund(
            payment_id=grant.payment_id or "", amount_cents=cents, key=ids.encode(ids.CREDIT_GRANT, grant.pk)
        )
    with transaction.atomic():
        wallet = lock_wallet(tenant_id=grant.tenant_id, wallet_id=grant.wallet_id)
        mine = CreditGrant.objects.filter(pk=grant.pk, refund_id="").update(refund_id=name)
        if mine and cents:
            purse = purse_of(wallet)
            purse.lines.move(cents * CENT_NANO, source=("refunds", None), target=("cash", None))
            post(wallet, purse, kind=PostingKind.REFUND, actor=SYSTEM, now=now, note=name)
    return 1
