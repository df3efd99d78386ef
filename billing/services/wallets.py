"""Wallets and the credit in them: made, granted, voided, closed. Each is one transaction with its audit entry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction

from billing.domain.pushing import next_close
from billing.domain.wallets import Credit
from billing.models import CreditGrant, CreditKind, PostingKind, Wallet
from billing.services.journal import WalletNotFound, lock_wallet, post, purse_of, tell
from billing.services.wallet_charges import write_charges
from budgets.services.policy import one_publication, publish
from budgets.services.wallet_limits import FALLS_MAX, drop_limit, wallet_id_of, wallets_of
from noburn.kit import ids
from noburn.kit.money import LIMIT_NANO_MAX, to_usd
from noburn.kit.problems import FieldError, Invalid, Missing
from tenants.services import audit
from tenants.services.tenants import lock_tenant

__all__ = [
    "AutomaticTopUp",
    "GrantNotFound",
    "InvalidWallet",
    "NewGrant",
    "WalletNotFound",
    "close_wallet",
    "create_wallet",
    "grant_credit",
    "lapse",
    "set_automatic",
    "set_low",
    "void_grant",
]

CUSTOMER_MAX: Final = 200
REASON_MAX: Final = 500
GRANTS_OPEN_MAX: Final = FALLS_MAX
PRIORITIES: Final = {CreditKind.PROMOTIONAL: 40, CreditKind.PAID: 50}
"""Presents are burnt first, unless a grant says otherwise."""

YEARS_MAX: Final = 20
SYSTEM: Final = "system"


class InvalidWallet(Invalid):
    """A wallet, or a change of one, that breaks rules; `errors` names every one."""


class GrantNotFound(Missing):
    """The wallet has no such grant."""


@dataclass(frozen=True, kw_only=True)
class NewGrant:
    """Credit to be given. `priority` from 0 (first) to 100; None: 40 for presents, 50 for paid credit.

    `payment_id` names the payment that it was bought with: one payment is credited once.
    """

    kind: str
    amount_nano: int
    priority: int | None = None
    expires_at: datetime | None = None
    reason: str = ""
    payment_id: str | None = None

    def errors(self, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = []
        if self.kind not in CreditKind.values:
            errors.append(FieldError("kind", f"must be one of {', '.join(CreditKind.values)}"))
        if not 1 <= self.amount_nano <= LIMIT_NANO_MAX:
            errors.append(FieldError("amount_usd", f"must be above 0 and at most {to_usd(LIMIT_NANO_MAX)}"))
        if self.priority is not None and not 0 <= self.priority <= 100:
            errors.append(FieldError("priority", "must be between 0 and 100"))
        if self.expires_at is not None and self.expires_at <= now:
            errors.append(FieldError("expires_at", "must be in the future"))
        elif self.expires_at is not None and self.expires_at > now + timedelta(days=366 * YEARS_MAX):
            errors.append(
                FieldError("expires_at", f"must be within {YEARS_MAX} years; leave it out for no end")
            )
        if len(self.reason) > REASON_MAX or not self.reason.isprintable():
            errors.append(FieldError("reason", f"must be at most {REASON_MAX} printable characters"))
        return errors


@dataclass(frozen=True, kw_only=True)
class AutomaticTopUp:
    """When less than `threshold` is left, the saved payment method is charged `amount`, up to `monthly_max` a month."""

    threshold_nano: int
    amount_nano: int
    monthly_max_nano: int

    def errors(self) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = payment_errors(self.amount_nano)
        if not 0 <= self.threshold_nano <= LIMIT_NANO_MAX:
            errors.append(FieldError("threshold_usd", f"must be from 0 to {to_usd(LIMIT_NANO_MAX)}"))
        if self.monthly_max_nano < self.amount_nano:
            errors.append(FieldError("monthly_max_usd", "must be at least amount_usd"))
        return errors


CENT_NANO: Final = 10**7
PAYMENT_NANO_MIN: Final = 50 * CENT_NANO
PAYMENT_NANO_MAX: Final = 99_999_999 * CENT_NANO


def payment_errors(amount_nano: int) -> list[FieldError]:
    """Returns what is wrong with an amount that is to be paid: whole cents, as far as Stripe takes them."""
    if amount_nano % CENT_NANO or not PAYMENT_NANO_MIN <= amount_nano <= PAYMENT_NANO_MAX:
        least, most = to_usd(PAYMENT_NANO_MIN), to_usd(PAYMENT_NANO_MAX)
        return [FieldError("amount_usd", f"must be whole cents from {least} to {most}")]
    return []


def create_wallet(*, tenant_id: UUID, customer: str, actor: str, now: datetime) -> Wallet:
    """Gives a customer a wallet, empty: from its next call on it pays beforehand. One that was closed is opened again.

    Raises TenantNotFound, InvalidWallet, also if the customer has one.
    """
    errors = []
    if not 1 <= len(customer) <= CUSTOMER_MAX or not customer.isprintable() or customer != customer.strip():
        errors.append(FieldError("customer", f"must be 1 to {CUSTOMER_MAX} printable characters"))
    if errors:
        raise InvalidWallet(errors)
    with one_publication(tenant_id=tenant_id, now=now):
        wallets_id = wallets_of(tenant_id=tenant_id, now=now)
        wallet = Wallet.objects.filter(tenant_id=tenant_id, customer=customer).first()
        if wallet is not None and wallet.closed_at is None:
            raise InvalidWallet([FieldError("customer", "has a wallet already")])
        if wallet is None:
            wallet = Wallet.objects.create(
                id=wallet_id_of(wallets_id=wallets_id, customer=customer),
                tenant_id=tenant_id,
                wallets_id=wallets_id,
                customer=customer,
                true_up_at=next_close(now),
                created_at=now,
            )
        else:
            wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet.pk)
            wallet.closed_at = None
            wallet.save(update_fields=["closed_at"])
        tell(wallet, purse_of(wallet).credits.values(), now=now)
        write_charges(tenant_id=tenant_id, now=now)
        # Gateways remember who has no wallet as long as their policy lasts.
        publish(tenant_id=tenant_id, now=now)
        _record(wallet, "wallet.create", actor=actor, now=now, after={"customer": customer})
    return wallet


def grant_credit(
    *, tenant_id: UUID, wallet_id: UUID, grant: NewGrant, actor: str, now: datetime
) -> CreditGrant:
    """Gives credit; what is owed is paid with it first. A payment that was credited before is answered as it was then.

    Raises WalletNotFound, InvalidWallet.
    """
    errors = grant.errors(now)
    if errors:
        raise InvalidWallet(errors)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        return credit(
            lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id), grant=grant, actor=actor, now=now
        )


def credit(wallet: Wallet, *, grant: NewGrant, actor: str, now: datetime) -> CreditGrant:
    """Gives credit to a locked wallet, in the caller's transaction. Raises InvalidWallet."""
    if grant.payment_id is not None:
        known = CreditGrant.objects.filter(tenant_id=wallet.tenant_id, payment_id=grant.payment_id).first()
        if known is not None:
            return known
    _require_room(wallet, grant)
    kind = CreditKind(grant.kind)
    made = CreditGrant.objects.create(
        id=ids.new_uuid(now),
        tenant_id=wallet.tenant_id,
        wallet_id=wallet.pk,
        kind=kind,
        amount_nano=grant.amount_nano,
        remaining_nano=0,
        priority=PRIORITIES[kind] if grant.priority is None else grant.priority,
        expires_at=grant.expires_at,
        reason=grant.reason,
        payment_id=grant.payment_id,
        created_by=actor,
        created_at=now,
    )
    purse = purse_of(wallet, also={made.pk})
    fresh = purse.credits[made.pk]
    fresh.remaining = made.amount_nano
    source = "cash" if kind is CreditKind.PAID else "promotion"
    purse.lines.move(made.amount_nano, source=(source, None), target=(fresh.account, made.pk))
    post(wallet, purse, kind=PostingKind.GRANT, actor=actor, now=now, note=grant.reason)
    if purse.owed > 0:
        purse.repay(now=now)
        post(wallet, purse, kind=PostingKind.REPAY, actor=SYSTEM, now=now)
    no_longer_low(wallet, purse.balance(now))
    tell(wallet, purse.credits.values(), now=now)
    _record(wallet, "wallet.grant", actor=actor, now=now, after=_seen_grant(made))
    made.remaining_nano = fresh.remaining
    return made


def _require_room(wallet: Wallet, grant: NewGrant) -> None:
    if wallet.closed_at is not None and grant.payment_id is None:
        raise InvalidWallet([FieldError("wallet", "is closed; make it again first")])
    open_grants = CreditGrant.objects.filter(
        tenant_id=wallet.tenant_id, wallet_id=wallet.pk, remaining_nano__gt=0
    )
    errors = []
    if grant.payment_id is None and open_grants.count() >= GRANTS_OPEN_MAX:
        errors.append(FieldError("wallet", f"has {GRANTS_OPEN_MAX} grants with something left"))
    left = sum(open_grants.values_list("remaining_nano", flat=True))
    if wallet.burnt_nano + left + grant.amount_nano > LIMIT_NANO_MAX:
        most = to_usd(LIMIT_NANO_MAX)
        errors.append(
            FieldError("amount_usd", f"what was ever burnt and what is left would be more than {most}")
        )
    if errors:
        raise InvalidWallet(errors)


def void_grant(
    *,
    tenant_id: UUID,
    wallet_id: UUID,
    grant_id: UUID,
    reason: str,
    actor: str,
    now: datetime,
    refund: bool = False,
) -> CreditGrant:
    """Takes back what is left of a grant: no new call is held on it.

    Calls in flight keep theirs, and an hour later the rest is gone; `refund` pays it back, of a grant that a payment
    bought. Voiding it again changes nothing. Raises WalletNotFound, GrantNotFound, InvalidWallet.
    """
    if not reason.strip() or len(reason) > REASON_MAX or not reason.isprintable():
        raise InvalidWallet([FieldError("reason", f"must be 1 to {REASON_MAX} printable characters")])
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        grant = CreditGrant.objects.filter(tenant_id=tenant_id, wallet_id=wallet_id, pk=grant_id).first()
        if grant is None:
            raise GrantNotFound(str(grant_id))
        if refund and grant.payment_id is None:
            raise InvalidWallet([FieldError("refund", "was bought by no payment that could be paid back")])
        if grant.voided_at is None:
            before = _seen_grant(grant)
            grant.refund_wanted = refund
            grant.voided_at, grant.voided_by, grant.void_reason = now, actor, reason
            grant.save(update_fields=["voided_at", "voided_by", "void_reason", "refund_wanted"])
            tell(wallet, purse_of(wallet).credits.values(), now=now)
            _record(
                wallet, "wallet.void_grant", actor=actor, now=now, before=before, after=_seen_grant(grant)
            )
    return grant


def close_wallet(*, tenant_id: UUID, wallet_id: UUID, actor: str, now: datetime) -> Wallet:
    """Ends prepayment for a customer: its calls are held on nothing in the wallet any more. What is left stays there.

    Closing it again changes nothing. Raises WalletNotFound.
    """
    with one_publication(tenant_id=tenant_id, now=now):
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        if wallet.closed_at is None:
            wallet.closed_at = now
            wallet.save(update_fields=["closed_at"])
            drop_limit(tenant_id=tenant_id, wallets_id=wallet.wallets_id, customer=wallet.customer, now=now)
            _record(wallet, "wallet.close", actor=actor, now=now, after={"customer": wallet.customer})
    return wallet


def set_automatic(
    *, tenant_id: UUID, wallet_id: UUID, automatic: AutomaticTopUp | None, actor: str, now: datetime
) -> Wallet:
    """Lets a wallet be topped up by itself, or no more (None). Raises WalletNotFound, InvalidWallet."""
    errors = automatic.errors() if automatic is not None else []
    if errors:
        raise InvalidWallet(errors)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        before = _seen_automatic(wallet)
        wallet.auto_threshold_nano = automatic.threshold_nano if automatic else None
        wallet.auto_amount_nano = automatic.amount_nano if automatic else None
        wallet.auto_monthly_max_nano = automatic.monthly_max_nano if automatic else None
        # Somebody looked at it: what failed before is forgotten.
        wallet.auto_failures, wallet.auto_retry_at = 0, None
        wallet.save(
            update_fields=[
                "auto_threshold_nano",
                "auto_amount_nano",
                "auto_monthly_max_nano",
                "auto_failures",
                "auto_retry_at",
            ]
        )
        after = _seen_automatic(wallet)
        _record(wallet, "wallet.automatic", actor=actor, now=now, before=before, after=after)
    return wallet


def set_low(*, tenant_id: UUID, wallet_id: UUID, low_nano: int | None, actor: str, now: datetime) -> Wallet:
    """Says below which balance somebody is told. Raises WalletNotFound, InvalidWallet."""
    if low_nano is not None and not 0 <= low_nano <= LIMIT_NANO_MAX:
        raise InvalidWallet([FieldError("low_usd", f"must be from 0 to {to_usd(LIMIT_NANO_MAX)}")])
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        before = {"low_usd": None if wallet.low_nano is None else to_usd(wallet.low_nano)}
        wallet.low_nano, wallet.low_told_at = low_nano, None
        wallet.save(update_fields=["low_nano", "low_told_at"])
        after = {"low_usd": None if low_nano is None else to_usd(low_nano)}
        _record(wallet, "wallet.low", actor=actor, now=now, before=before, after=after)
    return wallet


def lapse(*, tenant_id: UUID, wallet_id: UUID, now: datetime) -> int:
    """Takes off a wallet what is left of credit that ended an hour ago; returns how many grants that were.

    The caller has burnt everything that calls of before have used. Raises WalletNotFound.
    """
    with transaction.atomic():
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        purse = purse_of(wallet)
        due = [c for c in purse.credits.values() if c.remaining and _lapsed(c, now)]
        for one in due:
            purse.end(one)
        post(wallet, purse, kind=PostingKind.EXPIRE, actor=SYSTEM, now=now)
        CreditGrant.objects.filter(tenant_id=tenant_id, pk__in=[c.id for c in due]).update(ended_at=now)
        if due:
            tell(wallet, purse.credits.values(), now=now)
    return len(due)


def _lapsed(one: Credit, now: datetime) -> bool:
    at = one.lapses_at()
    return at is not None and at <= now


def no_longer_low(wallet: Wallet, balance: int) -> None:
    """Lets it be told anew that a locked wallet is low, once there was more in it."""
    if wallet.low_told_at is not None and (wallet.low_nano is None or balance > wallet.low_nano):
        wallet.low_told_at = None
        wallet.save(update_fields=["low_told_at"])


def _seen_grant(grant: CreditGrant) -> dict[str, Any]:
    return {
        "grant": ids.encode(ids.CREDIT_GRANT, grant.pk),
        "kind": str(grant.kind),
        "amount_usd": to_usd(grant.amount_nano),
        "priority": grant.priority,
        "expires_at": grant.expires_at.isoformat() if grant.expires_at else None,
        "reason": grant.reason,
        "voided": grant.voided_at is not None,
        "void_reason": grant.void_reason,
    }


def _seen_automatic(wallet: Wallet) -> dict[str, Any] | None:
    if wallet.auto_amount_nano is None:
        return None
    return {
        "threshold_usd": to_usd(wallet.auto_threshold_nano or 0),
        "amount_usd": to_usd(wallet.auto_amount_nano),
        "monthly_max_usd": to_usd(wallet.auto_monthly_max_nano or 0),
    }


def _record(
    wallet: Wallet,
    action: str,
    *,
    actor: str,
    now: datetime,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        tenant_id=wallet.tenant_id,
        actor=actor,
        action=action,
        object=ids.encode(ids.WALLET, wallet.pk),
        before=before,
        after=after,
        now=now,
    )
