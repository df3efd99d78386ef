"""A whole noburn that the SDK's tests call, and what it and the provider double say afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import uuid4

from tests.api.serving import Caller, Serving, serving

ENOUGH = "10"


class Plane:
    """A running noburn with one tenant; tests differ by their customers."""

    def __init__(self, running: Serving, secret: str) -> None:
        self.url = running.url
        self.secret = secret
        self._caller = Caller(running.url, secret)

    def close(self) -> None:
        """Closes its connection."""
        self._caller.__exit__()

    def get(self, path: str) -> Any:
        """A GET's JSON."""
        told = self._caller.send("GET", path)
        assert told.status == 200, told
        return told.body

    def post(self, path: str, body: Any) -> Any:
        """A POST's JSON."""
        told = self._caller.send("POST", path, body)
        assert told.status in (200, 201), told
        return told.body

    def customer(self, limit_usd: str = ENOUGH, **fields: Any) -> Customer:
        """A customer with a budget."""
        name = f"acme-{uuid4().hex[:12]}"
        budget = {"scope": "customer", "subject": name, "window": "total", "limit_usd": limit_usd, **fields}
        made = self.post("/v1/budgets", budget)
        return Customer(self, name, made["id"])


class Customer:
    """One customer, and what noburn knows of its calls."""

    def __init__(self, plane: Plane, name: str, budget: str) -> None:
        self.plane, self.name, self.budget = plane, name, budget

    def ledger(self) -> list[dict[str, Any]]:
        """Its ledger entries, oldest first."""
        items = self.plane.get(f"/v1/ledger?customer={self.name}&limit=200")["items"]
        return list(reversed(items))

    def decisions(self) -> list[dict[str, Any]]:
        """What was decided about its calls, oldest first."""
        items = self.plane.get(f"/v1/decisions?customer={self.name}&limit=200")["items"]
        return list(reversed(items))

    def remaining(self) -> Decimal:
        """What its budget has left, holds taken off."""
        (budget,) = self.plane.get(f"/v1/remaining?customer={self.name}")["budgets"]
        return Decimal(budget["remaining_usd"])


@contextmanager
def plane() -> Iterator[Plane]:
    """Serves one."""
    with serving() as running:
        tenant = running.manage("provision", "--tenant", "alice", "--json")
        found = Plane(running, running.key(tenant["tenant_id"]))
        try:
            yield found
        finally:
            found.close()
