"""Opens Stripe's portal for a customer."""

from __future__ import annotations

from uuid import UUID

from billing.domain.sink import SinkUnavailable
from billing.models import StripeLink
from billing.services.stripe_access import NoPlatformKey, access_of, connected_account
from billing.services.stripe_links import LinkNotFound
from billing.stripe.invoices import portal_url
from noburn.kit.sealing import Unreadable


def open_portal(*, tenant_id: UUID, customer_id: UUID, return_url: str) -> str:
    """Returns the address of a new session. Raises NotConnected, LinkNotFound, SinkError."""
    account = connected_account(tenant_id=tenant_id)
    link = StripeLink.objects.filter(tenant_id=tenant_id, customer_id=customer_id).first()
    if link is None or not link.stripe_customer:
        raise LinkNotFound(str(customer_id))
    try:
        access = access_of(account)
    except (NoPlatformKey, Unreadable) as error:
        raise SinkUnavailable(str(error)) from error
    return portal_url(access, customer=link.stripe_customer, return_url=return_url)
