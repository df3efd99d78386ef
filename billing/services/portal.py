"""Opens Stripe's portal for a customer."""

from __future__ import annotations

from billing.domain.sink import SinkRefused, SinkUnavailable
from billing.models import StripeLink
from billing.services.stripe_access import NoPlatformKey, access_of, connected_account
from billing.stripe.invoices import portal_url
from noburn.kit.sealing import Unreadable


def open_portal(*, link: StripeLink, return_url: str) -> str:
    """Returns the address of a new session. Raises NotConnected, SinkError."""
    account = connected_account(tenant_id=link.tenant_id)
    if not link.stripe_customer:
        raise SinkRefused("the customer is not linked yet")
    try:
        access = access_of(account)
    except (NoPlatformKey, Unreadable) as error:
        raise SinkUnavailable(str(error)) from error
    return portal_url(access, customer=link.stripe_customer, return_url=return_url)
