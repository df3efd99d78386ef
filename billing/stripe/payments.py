"""Payments into wallets: Checkout, the saved card, refunds. What a payment is for stands in its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from billing.domain.payments import Checkout, Order, Paid, Payment
from billing.domain.sink import SinkRefused
from billing.stripe.client import StripeAccess, client_for, plain, translated

TOP_UP: Final = "noburn_top_up"
"""The metadata by which a payment is known: the top-up's id."""

CARD_DECLINED: Final = 402
LOOKED_AT_MAX: Final = 100
NO_CARD: Final = "the customer has no saved payment method; let it pay by Checkout once"


def top_up_of(told: Any) -> str | None:
    """The top-up that an object of Stripe's is for, if it is for one."""
    found = (told.get("metadata") or {}).get(TOP_UP)
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class StripePayments:
    """Takes payments in one account."""

    access: StripeAccess

    def create_checkout(self, order: Order, *, success_url: str, cancel_url: str) -> Checkout:
        """Opens a page; the card is kept for later payments. Raises SinkError."""
        metadata = {TOP_UP: order.top_up}
        params = {
            "mode": "payment",
            "customer": order.customer,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": order.amount_cents,
                        "product_data": {"name": order.description},
                    },
                }
            ],
            "payment_intent_data": {"setup_future_usage": "off_session", "metadata": metadata},
            "metadata": metadata,
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        with translated():
            made = client_for(self.access).v1.checkout.sessions.create(
                cast(Any, params), {"idempotency_key": f"noburn:checkout:{order.top_up}"}
            )
        return Checkout(id=made.id, url=made.url or "")

    def charge_saved(self, order: Order) -> Payment:
        """Charges the saved card without its owner. A card that does not pay is an answer. Raises SinkError."""
        client = client_for(self.access)
        with translated():
            cards = client.v1.customers.payment_methods.list(
                order.customer, cast(Any, {"type": "card", "limit": 1})
            )
        if not cards.data:
            return Payment(state=Paid.FAILED, message=NO_CARD)
        params = {
            "amount": order.amount_cents,
            "currency": "usd",
            "customer": order.customer,
            "payment_method": cards.data[0].id,
            "off_session": True,
            "confirm": True,
            "description": order.description,
            "metadata": {TOP_UP: order.top_up},
        }
        try:
            with translated():
                made = client.v1.payment_intents.create(
                    cast(Any, params), {"idempotency_key": f"noburn:charge:{order.top_up}"}
                )
        except SinkRefused as error:
            if error.status != CARD_DECLINED:
                raise
            return Payment(state=Paid.FAILED, message=str(error))
        return _payment(plain(made))

    def checkout(self, checkout_id: str) -> Payment:
        """What became of a page. Raises SinkError."""
        with translated():
            found = plain(client_for(self.access).v1.checkout.sessions.retrieve(checkout_id))
        if found.get("payment_status") == "paid":
            return Payment(
                state=Paid.PAID,
                payment_id=_name(found["payment_intent"]),
                amount_cents=int(found["amount_total"]),
            )
        return Payment(state=Paid.EXPIRED if found.get("status") == "expired" else Paid.OPEN)

    def payment_of(self, order: Order) -> Payment | None:
        """The payment that carries the order's id, among the customer's latest. Raises SinkError."""
        with translated():
            page = client_for(self.access).v1.payment_intents.list(
                cast(Any, {"customer": order.customer, "limit": LOOKED_AT_MAX})
            )
        found = [intent for intent in map(plain, page.data) if top_up_of(intent) == order.top_up]
        paid = [intent for intent in found if intent.get("status") == "succeeded"]
        return _payment((paid or found)[0]) if found else None

    def refund(self, *, payment_id: str, amount_cents: int, key: str) -> str:
        """Pays a part of a payment back. Raises SinkError."""
        with translated():
            made = client_for(self.access).v1.refunds.create(
                cast(Any, {"payment_intent": payment_id, "amount": amount_cents}),
                {"idempotency_key": f"noburn:refund:{key}"},
            )
        return made.id


def _payment(intent: Any) -> Payment:
    status = intent.get("status")
    if status == "succeeded":
        return Payment(
            state=Paid.PAID, payment_id=str(intent["id"]), amount_cents=int(intent["amount_received"])
        )
    if status == "processing":
        return Payment(state=Paid.OPEN, payment_id=str(intent["id"]))
    told = intent.get("last_payment_error") or {}
    message = " ".join(str(told.get("message") or "the payment was not completed").split())[:300]
    return Payment(state=Paid.FAILED, payment_id=str(intent["id"]), message=message)


def _name(found: Any) -> str:
    return str(found["id"]) if isinstance(found, dict) else str(found)
