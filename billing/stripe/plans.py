"""noburn's own plans in the platform's account: prices, Checkout, the portal, changes of a subscription."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from billing.domain.plans import TRIAL_DAYS, Offer
from billing.domain.sink import SinkMissing, SinkRefused
from billing.stripe.client import StripeAccess, client_for, plain, translated
from billing.stripe.customers import moment
from billing.stripe.setup import ensure_meter, ensure_product, request_key

METER: Final = "noburn_plan_requests"
PRODUCT: Final = "noburn_plan_{code}"
METADATA: Final = "noburn_plan_tenant"


@dataclass(frozen=True, slots=True)
class OfferPrices:
    """An offer at Stripe: what is paid each month, and what requests beyond cost."""

    base: str
    overage: str


@dataclass(frozen=True, slots=True)
class PlanSubscription:
    """A tenant's subscription as Stripe has it now. `offer` is the key of what it pays for, "" if it is not ours."""

    id: str
    status: str
    customer: str
    tenant: str
    offer: str
    period_starts_at: datetime
    period_ends_at: datetime
    trial_ends_at: datetime | None
    cancel_at: datetime | None
    items: tuple[tuple[str, str], ...]
    """(id of the item, lookup key of its price)."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would cost at once: in cents, and line by line."""

    due_cents: int
    lines: tuple[tuple[str, int], ...]


def base_key(offer: Offer) -> str:
    """The lookup key of an offer's monthly price."""
    return f"noburn_plan_{offer.key}"


def overage_key(offer: Offer) -> str:
    """The lookup key of an offer's metered price."""
    return f"noburn_plan_{offer.key}_overage"


def ensure_offer(access: StripeAccess, offer: Offer) -> OfferPrices:
    """Returns an offer's prices, made with meter and product where they are not there yet. Raises SinkError."""
    held = _prices(access, [base_key(offer), overage_key(offer)])
    if len(held) == 2:
        return OfferPrices(held[base_key(offer)], held[overage_key(offer)])
    meter = ensure_meter(access, event_name=METER, name="Requests to noburn")
    product = ensure_product(access, product_id=PRODUCT.format(code=offer.code), name=f"noburn {offer.name}")
    monthly: dict[str, Any] = {
        "currency": "usd",
        "product": product,
        "unit_amount": offer.base_cents,
        "recurring": {"interval": "month"},
        "lookup_key": base_key(offer),
        "nickname": f"noburn {offer.name}, a month",
    }
    beyond = format(offer.overage_cents or Decimal(0), "f")
    metered: dict[str, Any] = {
        "currency": "usd",
        "product": product,
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        # What is included costs nothing; Stripe reckons the rest, in the subscription's own period.
        "tiers": [
            {"up_to": offer.requests, "unit_amount": 0},
            {"up_to": "inf", "unit_amount_decimal": beyond},
        ],
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
        "lookup_key": overage_key(offer),
        "nickname": f"noburn {offer.name}, requests beyond",
    }
    return OfferPrices(_price(access, held, monthly), _price(access, held, metered))


def _prices(access: StripeAccess, keys: list[str]) -> dict[str, str]:
    with translated():
        found = client_for(access).v1.prices.list(
            cast(Any, {"lookup_keys": keys, "active": True, "limit": 10})
        )
    return {str(price.lookup_key): price.id for price in found.data}


def _price(access: StripeAccess, held: dict[str, str], params: dict[str, Any]) -> str:
    key = params["lookup_key"]
    if key in held:
        return held[key]
    try:
        with translated():
            return (
                client_for(access)
                .v1.prices.create(cast(Any, params), {"idempotency_key": request_key("plan-price", params)})
                .id
            )
    except SinkRefused:
        # Another worker was faster.
        again = _prices(access, [key])
        if key not in again:
            raise
        return again[key]


def create_plan_customer(access: StripeAccess, *, tenant: str, name: str) -> str:
    """Makes the tenant's customer; a repetition within a day makes no second one. Raises SinkError."""
    params = {"name": name, "metadata": {METADATA: tenant}}
    key = request_key("plan-customer", {"tenant": tenant})
    with translated():
        return client_for(access).v1.customers.create(cast(Any, params), {"idempotency_key": key}).id


def create_checkout(
    access: StripeAccess,
    *,
    offer: Offer,
    customer: str,
    tenant: str,
    trial: bool,
    success_url: str,
    cancel_url: str,
    key: str,
) -> tuple[str, str]:
    """Opens a Checkout session for an offer; returns (id, address), the same for the same key. Raises SinkError."""
    prices = ensure_offer(access, offer)
    of_it: dict[str, Any] = {"metadata": {METADATA: tenant}}
    if trial:
        of_it |= {
            "trial_period_days": TRIAL_DAYS,
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
        }
    params: dict[str, Any] = {
        "mode": "subscription",
        "customer": customer,
        "client_reference_id": tenant,
        "line_items": [{"price": prices.base, "quantity": 1}, {"price": prices.overage}],
        "subscription_data": of_it,
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    with translated():
        made = client_for(access).v1.checkout.sessions.create(cast(Any, params), {"idempotency_key": key})
    return made.id, str(made.url)


def create_portal(access: StripeAccess, *, customer: str, return_url: str) -> str:
    """Opens a session of the billing portal; returns its address. Raises SinkError."""
    with translated():
        return (
            client_for(access)
            .v1.billing_portal.sessions.create({"customer": customer, "return_url": return_url})
            .url
        )


def _items(access: StripeAccess, held: PlanSubscription, offer: Offer) -> list[dict[str, Any]]:
    """The items of a subscription as a change makes them: the same two, at the prices of another offer."""
    prices = ensure_offer(access, offer)
    changed: list[dict[str, Any]] = []
    for name, key in held.items:
        changed.append({"id": name, "price": prices.overage if key.endswith("_overage") else prices.base})
    return changed


def preview_change(access: StripeAccess, held: PlanSubscription, offer: Offer) -> Preview:
    """What a change to an offer would be invoiced at once. Raises SinkError."""
    details = {"items": _items(access, held, offer), "proration_behavior": "always_invoice"}
    params = {"subscription": held.id, "subscription_details": details}
    with translated():
        found = plain(client_for(access).v1.invoices.create_preview(cast(Any, params)))
    lines = tuple((str(row["description"] or ""), int(row["amount"])) for row in found["lines"]["data"])
    return Preview(int(found["amount_due"]), lines)


def change_offer(access: StripeAccess, held: PlanSubscription, offer: Offer, *, key: str) -> PlanSubscription:
    """Moves a subscription to another offer now, prorated and invoiced at once. Raises SinkError."""
    params = {
        "items": _items(access, held, offer),
        "proration_behavior": "always_invoice",
        "cancel_at_period_end": False,
    }
    return _update(access, held.id, params, key)


def end_with_period(access: StripeAccess, held: PlanSubscription, *, key: str) -> PlanSubscription:
    """Lets a subscription run out at the end of what was paid. Raises SinkError."""
    return _update(access, held.id, {"cancel_at_period_end": True}, key)


def _update(access: StripeAccess, name: str, params: dict[str, Any], key: str) -> PlanSubscription:
    with translated():
        found = client_for(access).v1.subscriptions.update(name, cast(Any, params), {"idempotency_key": key})
    return _read(plain(found))


def read_plan(access: StripeAccess, *, subscription: str) -> PlanSubscription:
    """A subscription as it is now. Raises SinkError."""
    with translated():
        return _read(plain(client_for(access).v1.subscriptions.retrieve(subscription)))


def _read(row: dict[str, Any]) -> PlanSubscription:
    items = row["items"]["data"]
    if not items:
        raise SinkMissing(f"{row['id']} has no items")
    keys = tuple((str(each["id"]), str((each["price"] or {}).get("lookup_key") or "")) for each in items)
    prefix = "noburn_plan_"
    ours = next((key for _, key in keys if key.startswith(prefix) and not key.endswith("_overage")), "")
    return PlanSubscription(
        id=row["id"],
        status=row["status"],
        customer=str(row["customer"]),
        tenant=str((row.get("metadata") or {}).get(METADATA) or ""),
        offer=ours.removeprefix(prefix),
        period_starts_at=moment(items[0]["current_period_start"]),
        period_ends_at=moment(items[0]["current_period_end"]),
        trial_ends_at=None if row["trial_end"] is None else moment(row["trial_end"]),
        cancel_at=None if row["cancel_at"] is None else moment(row["cancel_at"]),
        items=keys,
    )
