"""The double's control interface: `POST /__control/<command>` with a JSON object.

| Command | Does |
|---|---|
| reset | forgets everything |
| clock | {"set": seconds, "move": seconds, "advance": seconds, "running": bool}; answers the present second |
| settings | sets fields of world.Settings |
| fault, faults, heal | adds a fault, lists them, removes all or one; what is slow goes on |
| key | {"key", "account"?, "revoked"?, "denied"?}: which account a key is of, and what it may not do |
| connect | {"key", "account"?}: an account connected to the key's; answers its id |
| deliver, deliveries | sends events (order, duplicates, only, at_once); hands them over, signed |
| courier | {"every": seconds or null}: delivers by itself |
| pay_checkout | {"key", "session", "card"}: the customer pays |
| pay_invoice | {"key", "invoice", "card"}: the customer pays on the hosted page |
| objects | {"key" or "account", "kind"}: all objects of a kind, without paging |
| requests | {"after", "path"?}: what was asked, with answers' statuses |
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from tests.doubles.stripe import checkout, collecting, delivery, invoicing
from tests.doubles.stripe.world import Account, Settings, World

Message = dict[str, Any]


class Controls:
    """Carries out control commands."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.courier: delivery.Courier | None = None

    def run(self, command: str, message: Message) -> Any:
        """Carries one out. Raises ValueError for an unknown one, or for what it cannot mean."""
        chosen: Callable[..., Any] | None = getattr(self, f"do_{command}", None)
        if chosen is None:
            raise ValueError(f"unknown command {command}")
        if command in ("deliver", "courier"):
            # These wait for others, who may ask the double meanwhile.
            return chosen(**message)
        with self.world.lock:
            return chosen(**message)

    def close(self) -> None:
        """Ends what runs by itself."""
        if self.courier is not None:
            self.courier.stop()
            self.courier = None

    def do_reset(self) -> Message:
        self.world.reset()
        return {"now": self.world.clock.now}

    def do_clock(
        self,
        set: int | None = None,
        move: int | None = None,
        advance: int | None = None,
        running: bool | None = None,
    ) -> Message:
        clock, done = self.world.clock, 0
        if set is not None:
            clock.set(set)
        if move is not None:
            done = clock.move(move)
        if advance is not None:
            done += clock.move(clock.now + advance)
        if running is not None:
            clock.run(running)
        return {"now": clock.now, "jobs": done}

    def do_settings(self, **values: Any) -> Message:
        known = {each.name for each in fields(Settings)}
        unknown = values.keys() - known
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}; known are {sorted(known)}")
        for name, value in values.items():
            setattr(self.world.settings, name, tuple(value) if isinstance(value, list) else value)
        return asdict(self.world.settings)

    def do_fault(self, **values: Any) -> Message:
        return asdict(self.world.faults.add(values, self.world.clock.now))

    def do_faults(self) -> list[Message]:
        return [asdict(each) for each in self.world.faults.all]

    def do_heal(self, number: int | None = None) -> list[Message]:
        kept = [each for each in self.world.faults.all if number is not None and each.number != number]
        self.world.faults.all = kept
        self.world.let_go()
        return self.do_faults()

    def do_key(
        self, key: str, account: str | None = None, revoked: bool = False, denied: list[str] | None = None
    ) -> Message:
        if account is not None:
            self.world.keys[key] = account
        self.world.revoked.discard(key)
        found = self.world.account_of_key(key)
        if revoked:
            self.world.revoked.add(key)
        self.world.denied[key] = list(denied or [])
        return {"account": found.id}

    def do_connect(self, key: str, account: str | None = None) -> Message:
        home = self.world.account_of_key(key)
        name = account or self.world.new_id("acct")
        self.world.account(name)
        self.world.connected[home.id].add(name)
        return {"account": name}

    def do_disconnect(self, key: str, account: str) -> Message:
        home = self.world.account_of_key(key)
        self.world.connected[home.id].discard(account)
        return {"account": account}

    def do_deliver(self, **how: Any) -> list[Message]:
        return delivery.deliver(self.world, **how)

    def do_deliveries(self, **how: Any) -> list[Message]:
        return delivery.take(self.world, **how)

    def do_courier(self, every: float | None = None, **how: Any) -> Message:
        self.close()
        if every is not None:
            self.courier = delivery.Courier(self.world, every, **how)
        return {"running": every is not None}

    def _account(self, key: str | None, account: str | None) -> Account:
        if account is not None:
            return self.world.account(account)
        if key is None:
            raise ValueError("key or account")
        return self.world.account_of_key(key)

    def do_pay_checkout(
        self,
        session: str,
        card: str = "pm_card_visa",
        key: str | None = None,
        account: str | None = None,
    ) -> Message:
        return copy.deepcopy(checkout.complete(self._account(key, account), session, card))

    def do_pay_invoice(
        self,
        invoice: str,
        card: str = "pm_card_visa",
        key: str | None = None,
        account: str | None = None,
    ) -> Message:
        home = self._account(key, account)
        held = home.tables["invoice"][invoice]
        invoicing.must_be(held, "open", "uncollectible")
        collecting.collect(home, held, card)
        return copy.deepcopy(held)

    def do_objects(self, kind: str, key: str | None = None, account: str | None = None) -> list[Message]:
        home = self._account(key, account)
        if kind == "invoice":
            for each in home.tables["invoice"].values():
                invoicing.refresh(home, each)
        if kind == "meter_event":
            return [asdict(entry) for entry in home.side["entries"].values()]
        return copy.deepcopy(list(home.tables[kind].values()))

    def do_requests(self, after: int = 0, path: str | None = None) -> list[Message]:
        return [each for each in self.world.log[after:] if path is None or path in each["path"]]
