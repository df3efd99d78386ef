"""What noburn does about events of the platform's own account: plans that were bought, changed, unpaid, left."""

from __future__ import annotations

import logging

from billing.domain.sink import SinkMissing
from billing.services import plan_changes
from billing.services.stripe_events import Happened, handles

log = logging.getLogger(__name__)


@handles("customer.subscription.*", platform=True)
def plan_changed(event: Happened) -> None:
    """Reads the subscription as it is now, whatever the event says that it was."""
    _refresh(event, event.object.get("id"))


@handles("checkout.session.completed", platform=True)
def plan_bought(event: Happened) -> None:
    """The same for the subscription that Checkout began."""
    _refresh(event, event.object.get("subscription"))


@handles("invoice.payment_failed", platform=True)
def plan_unpaid(event: Happened) -> None:
    """Tells the tenant. What becomes of the plan is the subscription's news."""
    customer, invoice = event.object.get("customer"), event.object.get("id")
    if isinstance(customer, str) and isinstance(invoice, str):
        plan_changes.payment_failed(customer=customer, invoice=invoice, now=event.now)


def _refresh(event: Happened, subscription: object) -> None:
    customer = event.object.get("customer")
    if not isinstance(customer, str) or not isinstance(subscription, str):
        return
    try:
        plan_changes.refresh(customer=customer, subscription=subscription, now=event.now)
    except SinkMissing:
        log.info("%s is no plan of ours", subscription)
