"""Waiting for what a proxy settles behind its calls: bounded, and by looking at the ledger itself."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from tests.sdk.plane import Customer

SECONDS = 60.0


def booked(customer: Customer, count: int = 1) -> list[dict[str, Any]]:
    """The customer's ledger entries once there are so many. Raises AssertionError where they never come."""
    until = time.monotonic() + SECONDS
    while True:
        entries = customer.ledger()
        if len(entries) >= count or time.monotonic() > until:
            assert len(entries) == count, entries
            return entries
        time.sleep(0.02)


def resolved(customer: Customer, left: str | Decimal) -> None:
    """Waits until the customer's budget has so much left: a hold is freed after its entry is written, or leaves none."""
    until = time.monotonic() + SECONDS
    while customer.remaining() != Decimal(left):
        assert time.monotonic() < until, customer.remaining()
        time.sleep(0.02)
