"""Subscriptions that a tenant changes at Stripe: one ends, with a last invoice or without, another begins."""

from __future__ import annotations

from datetime import datetime

from billing.domain.pushing import month_of
from tests.billing.push.till import Till


def cancel(till: Till, customer: str, *, invoice: bool) -> None:
    """Ends a customer's subscription now."""
    held = till.link_of(customer).subscription
    till.double.client(till.key).v1.subscriptions.cancel(held, {"invoice_now": invoice})


def subscribe(till: Till, customer: str, now: datetime) -> None:
    """Starts another one, which renews with the months."""
    till.double.client(till.key).v1.subscriptions.create(
        {
            "customer": till.link_of(customer).stripe_customer,
            "items": [{"price": till.account().price_id}],
            "billing_cycle_anchor": int(month_of(now)[1].timestamp()),
            "proration_behavior": "none",
        }
    )


def is_subscribed(till: Till, customer: str) -> bool:
    """Whether noburn knows of a subscription by which the customer pays."""
    return till.link_of(customer).subscription_status == "active"
