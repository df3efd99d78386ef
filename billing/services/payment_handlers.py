"""What noburn does about events that concern payments into wallets."""

from __future__ import annotations

from typing import Any

from billing.services import payments
from billing.services.stripe_events import Happened, handles
from billing.stripe.payments import top_up_of
from noburn.kit import ids


@handles("checkout.session.*", "payment_intent.succeeded")
def payment_changed(event: Happened) -> None:
    """Asks what became of the payment; an event of a payment that is for no wallet is no matter of ours.

    A failed attempt tells nothing: on the page it may be tried again, and a charge without the customer was answered.
    """
    top_up_id = _top_up(event.object)
    if event.tenant_id is None or top_up_id is None:
        return
    payments.refresh(tenant_id=event.tenant_id, top_up_id=top_up_id, now=event.now)


def _top_up(told: Any) -> Any:
    name = top_up_of(told)
    try:
        return ids.decode(ids.TOP_UP, name) if name is not None else None
    except ids.BadId:
        return None
