"""Customers and subscriptions in an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from billing.domain.sink import SinkMissing, SinkRefused, SinkUnauthorized
from billing.stripe.client import StripeAccess, client_for, plain, translated
from billing.stripe.setup import request_key

FOUND_MAX: Final = 10
SUBSCRIPTIONS_MAX: Final = 100
ENDED: Final = frozenset({"canceled", "incomplete_expired"})
LIVING: Final = frozenset({"active", "trialing", "past_due", "unpaid", "incomplete", "paused"})
METADATA: Final = "noburn_customer"


class Ambiguous(SinkRefused):
    """More than one of Stripe's customers could be meant: a person must say which."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription as Stripe has it now; its period is that of the item with our price, and ends where it ended."""

    id: str
    status: str
    customer: str
    period_starts_at: datetime
    period_ends_at: datetime

    @property
    def ended(self) -> bool:
        """Whether it is over for good."""
        return self.status in ENDED


def moment(seconds: Any) -> datetime:
    """A time as Stripe tells it."""
    return datetime.fromtimestamp(int(seconds), UTC)


def find_customer(access: StripeAccess, *, mark: str, email: str) -> str | None:
    """Returns the customer that carries our mark in its metadata, else the only one of this address. Raises SinkError.

    A key that may not search finds by address alone.
    """
    client = client_for(access)
    quoted = mark.replace("\\", "\\\\").replace("'", "\\'")
    try:
        with translated():
            marked = client.v1.customers.search(
                {"query": f"metadata['{METADATA}']:'{quoted}'", "limit": FOUND_MAX}
            )
        if found := _only([row.id for row in marked.data], "carry this customer's mark"):
            return found
    except SinkUnauthorized:
        pass
    if not email:
        return None
    with translated():
        named = client.v1.customers.list({"email": email, "limit": FOUND_MAX})
    return _only([row.id for row in named.data], f"have the address {email}")


def _only(found: Sequence[str], what: str) -> str | None:
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} customers at Stripe {what}; say which with stripe_customer")
    return found[0] if found else None


def check_customer(access: StripeAccess, *, customer: str) -> None:
    """Makes sure that a customer is there and was not deleted. Raises SinkError."""
    with translated():
        found = plain(client_for(access).v1.customers.retrieve(customer))
    if found.get("deleted"):
        raise SinkMissing(f"{customer} was deleted at Stripe", code="resource_missing", status=404)


def create_customer(access: StripeAccess, *, mark: str, name: str, email: str) -> str:
    """Makes a customer that carries our mark; a repetition within a day makes no second one. Raises SinkError."""
    params: dict[str, Any] = {"metadata": {METADATA: mark}}
    if name:
        params["name"] = name
    if email:
        params["email"] = email
    with translated():
        made = client_for(access).v1.customers.create(
            cast(Any, params), {"idempotency_key": request_key("customer", params)}
        )
    return made.id


def ensure_subscription(
    access: StripeAccess, *, customer: str, price_id: str, mark: str, renews_at: datetime
) -> Subscribed:
    """Returns the customer's living subscription to our price, started if there is none. Raises SinkError.

    One that we start renews for the first time at `renews_at`, and then every month.
    """
    found = find_subscription(access, customer=customer, price_id=price_id)
    if found is not None:
        return found
    params = {
        "customer": customer,
        "items": [{"price": price_id}],
        "metadata": {METADATA: mark},
        "billing_cycle_anchor": int(renews_at.timestamp()),
        "proration_behavior": "none",
    }
    # A customer that was subscribed before and is again within a day is another request.
    attempt = {**params, "ended": _ended(access, customer)}
    with translated():
        made = client_for(access).v1.subscriptions.create(
            cast(Any, params), {"idempotency_key": request_key("subscription", attempt)}
        )
    return _subscribed(plain(made), price_id)


def find_subscription(access: StripeAccess, *, customer: str, price_id: str) -> Subscribed | None:
    """The customer's living subscription to our price, if any. Raises SinkError, Ambiguous."""
    with translated():
        page = client_for(access).v1.subscriptions.list(
            cast(Any, {"customer": customer, "price": price_id, "limit": SUBSCRIPTIONS_MAX})
        )
    living = [
        row
        for row in map(plain, page.data)
        if row["status"] in LIVING and any(_price(item) == price_id for item in row["items"]["data"])
    ]
    if len(living) > 1:
        # Each of them would put the whole use on an invoice of its own.
        raise Ambiguous(f"{customer} has {len(living)} subscriptions to the price of usage; end all but one")
    return _subscribed(living[0], price_id) if living else None


def _ended(access: StripeAccess, customer: str) -> str:
    with translated():
        page = client_for(access).v1.subscriptions.list(
            cast(Any, {"customer": customer, "status": "canceled", "limit": 1})
        )
    return page.data[0].id if page.data else ""


def read_subscription(access: StripeAccess, *, subscription: str, price_id: str) -> Subscribed:
    """A subscription as it is now. Raises SinkError."""
    with translated():
        found = plain(client_for(access).v1.subscriptions.retrieve(subscription))
    return _subscribed(found, price_id)


def _subscribed(row: dict[str, Any], price_id: str) -> Subscribed:
    for item in row["items"]["data"]:
        if _price(item) == price_id:
            # What was used after its end is on none of its invoices.
            ends = [item["current_period_end"], *([row["ended_at"]] if row.get("ended_at") else [])]
            return Subscribed(
                id=row["id"],
                status=row["status"],
                customer=id_of(row["customer"]),
                period_starts_at=moment(item["current_period_start"]),
                period_ends_at=moment(min(ends)),
            )
    raise SinkRefused(f"{row['id']} has no item with the price of usage")


def _price(item: dict[str, Any]) -> str:
    return id_of(item.get("price"))


def id_of(value: Any) -> str:
    """An id, whether Stripe sent it alone or with its object."""
    return str(value["id"]) if isinstance(value, dict) else str(value or "")
