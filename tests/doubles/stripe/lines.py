"""Invoice lines: what was used in a period, what is paid ahead for the next one, and what changed meanwhile."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe.catalogue import charge
from tests.doubles.stripe.meters import used
from tests.doubles.stripe.objects import cents
from tests.doubles.stripe.world import Account, Object


def is_metered(price: Object) -> bool:
    """Says whether a price is charged by what was used."""
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def _pricing(price: Object | None) -> Object | None:
    if price is None:
        return None
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def line(
    account: Account,
    *,
    amount: int,
    description: str,
    period: tuple[int, int],
    price: Object | None,
    quantity: int | None,
    currency: str,
    parent: Object | None,
    metadata: dict[str, str] | None = None,
) -> Object:
    """Returns one line, not yet on an invoice."""
    return {
        "id": account.world.new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": amount >= 0,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": dict(metadata or {}),
        "parent": parent,
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": _pricing(price),
        "quantity": quantity,
        "quantity_decimal": None if quantity is None else str(quantity),
        "subscription": None,
        "subtotal": amount,
        "taxes": [],
    }


def of_item(subscription: Object, item: Object, *, proration: bool = False) -> Object:
    """Returns what a line says of where it comes from: an item of a subscription."""
    return {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": proration,
            "proration_details": {"credited_items": None},
            "subscription": subscription["id"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }


def of_invoice_item(pending: Object) -> Object:
    """The same for an invoice item."""
    return {
        "invoice_item_details": {
            "invoice_item": pending["id"],
            "proration": pending["proration"],
            "proration_details": {"credited_items": None},
            "subscription": (pending["parent"] or {}).get("subscription_details", {}).get("subscription"),
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }


def metered(
    account: Account, subscription: Object, item: Object, start: int, end: int, *, lag: bool
) -> Object:
    """Returns the line of what was used in [start, end). Less than nothing is nothing."""
    price = account.tables["price"][item["price"]["id"]]
    meter = account.tables["meter"][price["recurring"]["meter"]]
    quantity = max(0, used(account, meter, subscription["customer"], start, end, lag=lag))
    free = account.side[subscription["id"]].get("trial_until", 0) >= end
    return line(
        account,
        amount=0 if free else cents(charge(account, price, quantity)),
        description=f"{quantity} x {account.tables['product'][price['product']]['name']}",
        period=(start, end),
        price=price,
        quantity=quantity,
        currency=price["currency"],
        parent=of_item(subscription, item),
        metadata=subscription["metadata"],
    )


def licensed(account: Account, subscription: Object, item: Object, start: int, end: int) -> Object:
    """Returns the line of what is paid ahead for [start, end)."""
    price = account.tables["price"][item["price"]["id"]]
    quantity = item.get("quantity", 1)
    free = account.side[subscription["id"]].get("trial_until", 0) >= end
    name = account.tables["product"][price["product"]]["name"]
    return line(
        account,
        amount=0 if free else cents(charge(account, price, quantity)),
        description=f"Trial period for {name}" if free else f"{quantity} x {name}",
        period=(start, end),
        price=price,
        quantity=quantity,
        currency=price["currency"],
        parent=of_item(subscription, item),
        metadata=subscription["metadata"],
    )


def invoice_item(account: Account, customer: str, amount: int, currency: str, **given: Any) -> Object:
    """Makes an invoice item: what waits to be on the customer's next invoice."""
    now = account.world.clock.now
    start, end = given.get("period") or (now, now)
    price, subscription = given.get("price"), given.get("subscription")
    parent = None
    if subscription is not None:
        parent = {
            "subscription_details": {"subscription": subscription, "subscription_item": given.get("item")},
            "type": "subscription_details",
        }
    made: Object = {
        "id": account.world.new_id("ii"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "date": now,
        "description": given.get("description"),
        "discountable": amount >= 0,
        "discounts": [],
        "invoice": given.get("invoice"),
        "livemode": False,
        "metadata": dict(given.get("metadata") or {}),
        "net_amount": amount,
        "parent": parent,
        "period": {"start": start, "end": end},
        "pricing": _pricing(price),
        "proration": bool(given.get("proration")),
        "quantity": given.get("quantity", 1),
        "quantity_decimal": str(given.get("quantity", 1)),
        "tax_rates": [],
        "test_clock": None,
    }
    return made


def of_pending(account: Account, pending: Object) -> Object:
    """Returns the line that an invoice item becomes."""
    price = None
    if pending["pricing"] is not None:
        price = account.tables["price"].get(pending["pricing"]["price_details"]["price"])
    return line(
        account,
        amount=pending["amount"],
        description=pending["description"] or "",
        period=(pending["period"]["start"], pending["period"]["end"]),
        price=price,
        quantity=pending["quantity"],
        currency=pending["currency"],
        parent=of_invoice_item(pending),
        metadata=pending["metadata"],
    )
