"""A tenant's account at Stripe: connected, its key and webhook secrets replaced, its policy changed, disconnected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction

from alerts.services.secrets import sealer
from billing.domain.pushing import hour_of
from billing.models import (
    AccessMode,
    AccountState,
    LinkState,
    Measurement,
    MeasurementState,
    StripeAccount,
    StripeLink,
)
from billing.services import hints
from billing.services.stripe_access import connected_account
from noburn.kit import ids
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.tenancy import across_tenants
from tenants.services import audit
from tenants.services.tenants import lock_tenant

SECRETS_MAX: Final = 4
BACK_DAYS_MAX: Final = 31
_KEY: Final = re.compile(r"rk_(live|test)_[A-Za-z0-9_]{10,200}", re.ASCII)
_ACCOUNT: Final = re.compile(r"acct_[A-Za-z0-9]{6,48}", re.ASCII)
_SECRET: Final = re.compile(r"whsec_[A-Za-z0-9+/=_-]{8,200}", re.ASCII)


class InvalidStripe(Invalid):
    """A connection, or a change of one, that breaks rules."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach an account: by a restricted key of its own, or, with Connect, by its id and the platform's key.

    Usage from `billed_from` on is billed; None: from this hour on.
    """

    secret_key: str = field(default="", repr=False)
    account: str = ""
    webhook_secrets: Sequence[str] = field(default=(), repr=False)
    billed_from: datetime | None = None
    suspend_delinquent: bool = False

    def errors(self, now: datetime) -> list[FieldError]:
        """Returns everything that is wrong with it."""
        errors = webhook_errors(self.webhook_secrets)
        if bool(self.secret_key) == bool(self.account):
            errors.append(FieldError("secret_key", "send either a restricted key, or account for Connect"))
        elif self.secret_key:
            errors += key_errors(self.secret_key)
        else:
            errors += account_errors(self.account)
        if self.billed_from is not None:
            if self.billed_from > now:
                errors.append(FieldError("billed_from", "must not be in the future"))
            elif (now - self.billed_from).days >= BACK_DAYS_MAX:
                errors.append(FieldError("billed_from", f"must be within the last {BACK_DAYS_MAX} days"))
        return errors


def key_errors(key: str) -> list[FieldError]:
    """What is wrong with a key. Unrestricted ones are refused: whoever had one could do anything with the account."""
    if key.startswith(("sk_live_", "sk_test_")):
        return [
            FieldError(
                "secret_key",
                "is an unrestricted secret key: make a restricted one (rk_…) with the rights in docs/billing-stripe.md",
            )
        ]
    if key.startswith(("pk_live_", "pk_test_")):
        return [FieldError("secret_key", "is a publishable key: make a restricted one (rk_…)")]
    if not _KEY.fullmatch(key):
        return [FieldError("secret_key", "must be a restricted key of Stripe's, rk_live_… or rk_test_…")]
    return []


def account_errors(account: str) -> list[FieldError]:
    """What is wrong with an account for Connect."""
    if not settings.STRIPE_PLATFORM_KEY:
        return [FieldError("account", "this installation has no platform at Stripe; send a restricted key")]
    if not _ACCOUNT.fullmatch(account):
        return [FieldError("account", "must be an account of Stripe's, acct_…")]
    return []


def webhook_errors(secrets: Sequence[str]) -> list[FieldError]:
    """What is wrong with signing secrets."""
    if len(secrets) > SECRETS_MAX:
        return [FieldError("webhook_secrets", f"must be at most {SECRETS_MAX} secrets")]
    if not all(_SECRET.fullmatch(secret) for secret in secrets):
        return [FieldError("webhook_secrets", "must be signing secrets of Stripe's, whsec_…")]
    return []


def connect(*, tenant_id: UUID, connection: Connection, actor: str, now: datetime) -> StripeAccount:
    """Connects an account, which workers then set up. What was made in it before is found again.

    Raises TenantNotFound, or InvalidStripe with every error, also while another account is connected.
    """
    errors = connection.errors(now)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = StripeAccount.objects.select_for_update().filter(tenant_id=tenant_id).first()
        if found is not None and found.state != AccountState.DISCONNECTED:
            errors.append(
                FieldError("secret_key", "an account is connected already: change or disconnect it")
            )
        if connection.account and not errors and _taken(tenant_id, connection.account):
            errors.append(FieldError("account", "is another tenant's"))
        if errors:
            raise InvalidStripe(errors)
        from_ = hour_of(connection.billed_from or now)
        row = found or StripeAccount(id=ids.new_uuid(now), tenant_id=tenant_id, created_at=now, version=0)
        # What was billed through the account before stays billed: time goes on where it was.
        row.billed_from = max(row.billed_from, from_) if found is not None else from_
        row.mode = AccessMode.CONNECT if connection.account else AccessMode.KEY
        row.account = connection.account
        _lock_up(row, connection.secret_key)
        row.webhook_secrets = [sealer().seal(secret) for secret in connection.webhook_secrets]
        row.suspend_delinquent = connection.suspend_delinquent
        row.meter_id = row.product_id = row.price_id = ""
        row.meter_event = ""
        row.bucket_at, row.bucket_tokens = now, 0
        row.ready_at = None
        _to_be_set_up(row, now)
        row.save()
        if found is not None:
            # It may be another account: each link is looked up again before anything is sent by it.
            StripeLink.objects.filter(tenant_id=tenant_id).update(
                state=LinkState.PENDING, problem="", tries=0, next_attempt_at=now, updated_at=now
            )
        _record(row, "connect", actor, now, after=seen(row))
    return row


@across_tenants()
def _taken(tenant_id: UUID, account: str) -> bool:
    others = StripeAccount.objects.filter(account=account).exclude(tenant_id=tenant_id)
    return others.exclude(state=AccountState.DISCONNECTED).exists()


@dataclass(frozen=True, kw_only=True)
class AccountChanges:
    """What is to change; None leaves a thing as it is. A key replaces the one before at once."""

    secret_key: str | None = field(default=None, repr=False)
    webhook_secrets: Sequence[str] | None = field(default=None, repr=False)
    suspend_delinquent: bool | None = None


def change(*, tenant_id: UUID, changes: AccountChanges, actor: str, now: datetime) -> StripeAccount:
    """Changes a connection; with a new key it is set up again, which finds what is there.

    Raises TenantNotFound, NotConnected, or InvalidStripe with every error.
    """
    errors = []
    if changes.webhook_secrets is not None:
        errors += webhook_errors(changes.webhook_secrets)
    if changes.secret_key is not None:
        errors += key_errors(changes.secret_key)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = connected_account(tenant_id=tenant_id)
        before = seen(row)
        if changes.secret_key is not None:
            if row.mode != AccessMode.KEY:
                errors.append(
                    FieldError("secret_key", "the account is reached by Connect and has no key here")
                )
            elif not errors and ("_live_" in changes.secret_key[:8]) != row.livemode:
                errors.append(
                    FieldError("secret_key", "must be of the same mode; disconnect to change modes")
                )
        if errors:
            raise InvalidStripe(errors)
        if changes.secret_key is not None:
            _lock_up(row, changes.secret_key)
            _to_be_set_up(row, now)
        if changes.webhook_secrets is not None:
            row.webhook_secrets = [sealer().seal(secret) for secret in changes.webhook_secrets]
        if changes.suspend_delinquent is not None:
            row.suspend_delinquent = changes.suspend_delinquent
        row.version += 1
        row.updated_at = now
        row.save()
        after = seen(row)
        if changes.webhook_secrets is not None:
            after["webhook_secrets_replaced"] = True
        _record(row, "change", actor, now, before=before, after=after)
    return row


def disconnect(*, tenant_id: UUID, actor: str, now: datetime) -> None:
    """Forgets key and secrets; what waits in the outbox waits for the account to be connected again.

    Raises TenantNotFound, NotConnected.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = connected_account(tenant_id=tenant_id)
        before = seen(row)
        row.state = AccountState.DISCONNECTED
        row.secret_key, row.webhook_secrets = "", []
        row.problem = ""
        row.version += 1
        row.updated_at = now
        row.save()
        _record(row, "disconnect", actor, now, before=before, after=seen(row))


def set_up_again(*, tenant_id: UUID, actor: str, now: datetime) -> StripeAccount:
    """Has workers set the account up once more, after whatever stopped them was mended. Raises NotConnected."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        row = connected_account(tenant_id=tenant_id)
        before = seen(row)
        _to_be_set_up(row, now)
        row.version += 1
        row.save()
        _record(row, "set_up", actor, now, before=before, after=seen(row))
    return row


def missing(account: StripeAccount) -> list[str]:
    """What is to be done before usage is billed, the next thing first; empty: nothing."""
    steps = []
    if account.state == AccountState.FAILED:
        steps.append(f"mend what stopped set-up, and ask for it again: {account.problem}")
    elif account.state == AccountState.PENDING:
        steps.append(f"wait for set-up{f'; it is tried again: {account.problem}' if account.problem else ''}")
    if not account.webhook_secrets and account.mode == AccessMode.KEY:
        steps.append("add the signing secrets of the webhook endpoints that you made at Stripe")
    broken = Measurement.objects.filter(
        tenant_id=account.tenant_id, state__in=[MeasurementState.FAILED, MeasurementState.UNCLEAR]
    ).count()
    if broken:
        steps.append(f"look at {broken} measurements that failed or are unclear, and reissue them")
    return steps


def seen(row: StripeAccount) -> dict[str, Any]:
    """What the audit log shows of a connection."""
    return {
        "mode": row.mode,
        "account": row.account,
        "key_last4": row.key_last4,
        "livemode": row.livemode,
        "state": row.state,
        "suspend_delinquent": row.suspend_delinquent,
        "webhook_secrets": len(row.webhook_secrets),
        "billed_from": row.billed_from.isoformat(),
    }


def _lock_up(row: StripeAccount, key: str) -> None:
    row.secret_key = sealer().seal(key) if key else ""
    row.key_last4 = key[-4:]
    row.livemode = "_live_" in (key or settings.STRIPE_PLATFORM_KEY)[:8]


def _to_be_set_up(row: StripeAccount, now: datetime) -> None:
    row.state, row.problem, row.tries = AccountState.PENDING, "", 0
    row.next_attempt_at = row.updated_at = now
    row.paused_until = None
    hints.ask_for(hints.SET_UP)


def _record(
    row: StripeAccount,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        tenant_id=row.tenant_id,
        actor=actor,
        action=f"stripe.{verb}",
        object=ids.encode(ids.STRIPE_ACCOUNT, row.pk),
        before=before,
        after=after,
        now=now,
    )
