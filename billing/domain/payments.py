"""What wallets need of whoever takes payments. Today it is Stripe; nothing here says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

CENT_NANO: Final = 10**7
"""Nano-USD in a cent: payments are whole cents."""


class Paid(StrEnum):
    """How far a payment is."""

    OPEN = "open"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """So much from one customer. `top_up` goes with the payment for good, and makes a repeated request one payment."""

    top_up: str
    customer: str
    amount_cents: int
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkout:
    """A page on which the customer pays, and may keep its card for automatic payments."""

    id: str
    url: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Payment:
    """What became of an order. `payment_id` names the payment for ever; `message` says why it failed."""

    state: Paid
    payment_id: str = ""
    amount_cents: int = 0
    message: str = ""


class PaymentSink(Protocol):
    """Takes payments. Every method raises SinkError: SinkUnavailable where nobody knows what was done."""

    def create_checkout(self, order: Order, *, success_url: str, cancel_url: str) -> Checkout:
        """Opens a page for an order."""

    def charge_saved(self, order: Order) -> Payment:
        """Charges the payment method that the customer has saved, once however often it is repeated."""

    def checkout(self, checkout_id: str) -> Payment:
        """What became of a page."""

    def payment_of(self, order: Order) -> Payment | None:
        """The payment of an order as it is now, found by the order's own id; None if there is none."""

    def refund(self, *, payment_id: str, amount_cents: int, key: str) -> str:
        """Pays a part of a payment back, once for a key; returns the refund's id."""
