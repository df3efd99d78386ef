"""A noburn that runs elsewhere, as these tests reach it: by HTTP alone, without the server's packages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx

ENOUGH = "10"
PRICES = {
    "gpt-4o-mini": (Decimal("0.15"), Decimal("0.6")),
    "text-embedding-3-small": (Decimal("0.02"), Decimal(0)),
    "claude-haiku-4-5": (Decimal(1), Decimal(5)),
}
"""USD per million of input and output tokens, by their providers' pages."""


class Plane:
    """A running noburn with one tenant; tests differ by their customers."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self.secret = secret
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {secret}"}, timeout=60, trust_env=False
        )

    def close(self) -> None:
        """Closes its connection."""
        self._client.close()

    def get(self, path: str) -> Any:
        """A GET's JSON."""
        told = self._client.get(path)
        assert told.status_code == 200, told.text
        return told.json()

    def post(self, path: str, body: Any) -> Any:
        """A POST's JSON."""
        told = self._client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert told.status_code in (200, 201), told.text
        return told.json()

    def customer(self, limit_usd: str = ENOUGH, **fields: Any) -> Customer:
        """A customer with a budget."""
        name = f"acme-{uuid4().hex[:12]}"
        budget = {"scope": "customer", "subject": name, "window": "total", "limit_usd": limit_usd, **fields}
        self.post("/v1/budgets", budget)
        return Customer(self, name)


class Customer:
    """One customer, and what noburn knows of its calls."""

    def __init__(self, plane: Plane, name: str) -> None:
        self.plane, self.name = plane, name

    def ledger(self) -> list[dict[str, Any]]:
        """Its ledger entries, oldest first."""
        items = self.plane.get(f"/v1/ledger?customer={self.name}&limit=200")["items"]
        return list(reversed(items))

    def remaining(self) -> Decimal:
        """What its budget has left in USD, holds taken off."""
        (budget,) = self.plane.get(f"/v1/remaining?customer={self.name}")["budgets"]
        return Decimal(budget["remaining_usd"])


def cost(entry: dict[str, Any]) -> Decimal:
    """What the provider bills for a call of the double's ledger."""
    rates, metered = PRICES[entry["model"]], entry["metered"]
    tokens = Decimal(metered["input_tokens"]), Decimal(metered["output_tokens"])
    return (tokens[0] * rates[0] + tokens[1] * rates[1]) / 10**6
