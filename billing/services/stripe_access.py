"""With which key whose account is reached: the one place where keys are opened."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings

from alerts.services.secrets import sealer
from billing.models import AccessMode, AccountState, StripeAccount
from billing.stripe.client import StripeAccess
from noburn.kit.problems import Missing


class NotConnected(Missing):
    """The tenant has no account at Stripe that could be used."""


class NoPlatformKey(Exception):
    """STRIPE_PLATFORM_KEY is not set, so nothing can be done by the platform's right."""


def access_of(account: StripeAccount) -> StripeAccess:
    """How an account is reached. Raises Unreadable where its key was sealed by another installation, NoPlatformKey."""
    if account.mode == AccessMode.CONNECT:
        return StripeAccess(platform_access().api_key, account.account)
    return StripeAccess(sealer().open(account.secret_key))


def platform_access() -> StripeAccess:
    """How the platform's own account is reached. Raises NoPlatformKey."""
    if not settings.STRIPE_PLATFORM_KEY:
        raise NoPlatformKey("STRIPE_PLATFORM_KEY is not set")
    return StripeAccess(settings.STRIPE_PLATFORM_KEY)


def connected_account(*, tenant_id: UUID) -> StripeAccount:
    """The tenant's account, whatever its state but disconnected. Raises NotConnected."""
    found = StripeAccount.objects.filter(tenant_id=tenant_id).exclude(state=AccountState.DISCONNECTED).first()
    if found is None:
        raise NotConnected(str(tenant_id))
    return found


def tenant_access(*, tenant_id: UUID) -> StripeAccess:
    """How a tenant's account is reached. Raises NotConnected, NoPlatformKey, Unreadable."""
    return access_of(connected_account(tenant_id=tenant_id))
