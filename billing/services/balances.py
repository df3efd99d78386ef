"""What a customer is shown of its own balance, and the tokens that let it see that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils.functional import SimpleLazyObject

from billing.domain.balance_tokens import (
    ORIGINS_MAX,
    TTL_MAX,
    TTL_MIN,
    BalanceTokens,
    Claims,
    Shown,
    origin_errors,
    read_origin,
)
from billing.models import Wallet
from billing.queries.wallet_balances import with_balance
from budgets.queries.own_standings import OwnStanding, own_standings
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.tenancy import for_tenant
from tenants.models import Customer
from tenants.services.customers import CustomerNotFound


class InvalidBalanceToken(Invalid):
    """A token that cannot be made as it was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeToken:
    """A token, and what it says."""

    token: str
    claims: Claims


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """A customer's balance. `wallet_nano` is None without an open wallet, or where the token does not show it."""

    name: str
    time_zone: str
    suspended: bool
    wallet_nano: int | None
    budgets: tuple[OwnStanding, ...]


_tokens = SimpleLazyObject(
    lambda: BalanceTokens(keys=settings.NOBURN_SIGNING_KEYS, kid=settings.NOBURN_SIGNING_KID)
)


def make_balance_token(
    *,
    tenant_id: UUID,
    customer_id: UUID,
    ttl: timedelta,
    origins: Sequence[str],
    shown: Sequence[Shown],
    now: datetime,
) -> MadeToken:
    """Makes a token for one customer. Raises CustomerNotFound, and InvalidBalanceToken with everything wrong."""
    if not Customer.objects.filter(tenant_id=tenant_id, pk=customer_id).exists():
        raise CustomerNotFound(str(customer_id))
    errors = [FieldError(f"origins[{place}]", said) for place, said in origin_errors(origins).items()]
    if len(origins) > ORIGINS_MAX:
        errors.append(FieldError("origins", f"must be at most {ORIGINS_MAX}"))
    if not TTL_MIN <= ttl <= TTL_MAX:
        low, high = int(TTL_MIN.total_seconds()), int(TTL_MAX.total_seconds())
        errors.append(FieldError("ttl_seconds", f"must be between {low} and {high}"))
    if not shown:
        errors.append(FieldError("show", "must name at least one of wallet, budgets"))
    if errors:
        raise InvalidBalanceToken(errors)
    claims = Claims(
        tenant_id=tenant_id,
        customer_id=customer_id,
        shown=frozenset(shown),
        origins=tuple(dict.fromkeys(map(read_origin, origins))),
        expires_at=(now + ttl).replace(microsecond=0),
    )
    return MadeToken(token=_tokens.sign(claims), claims=claims)


def read_balance_token(*, token: str, now: datetime) -> Claims:
    """Returns what a token says. Raises BadToken, and Expired."""
    found: Claims = _tokens.read(token, now=now)
    return found


def balance_of(*, claims: Claims, now: datetime) -> Balance:
    """Returns what a token shows. Raises CustomerNotFound, also where the tenant is suspended."""
    with for_tenant(claims.tenant_id):
        return _balance_of(claims, now)


def _balance_of(claims: Claims, now: datetime) -> Balance:
    customer = (
        Customer.objects.select_related("tenant")
        .filter(tenant_id=claims.tenant_id, pk=claims.customer_id, tenant__suspended_at__isnull=True)
        .first()
    )
    if customer is None:
        raise CustomerNotFound(str(claims.customer_id))
    wallet_nano = None
    if Shown.WALLET in claims.shown:
        open_ = Wallet.objects.filter(
            tenant_id=claims.tenant_id, customer=customer.external_id, closed_at__isnull=True
        )
        wallet = with_balance(open_).first()
        if wallet is not None:
            wallet_nano = wallet.credit_nano - wallet.owed_nano  # type: ignore[attr-defined]
    standings: Sequence[OwnStanding] = ()
    if Shown.BUDGETS in claims.shown:
        standings = own_standings(tenant_id=claims.tenant_id, customer=customer.external_id, now=now)
    return Balance(
        name=customer.name or customer.external_id,
        time_zone=customer.tenant.time_zone,
        suspended=customer.suspended_at is not None,
        wallet_nano=wallet_nano,
        budgets=tuple(standings),
    )
