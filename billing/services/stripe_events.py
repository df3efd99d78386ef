"""Which events of Stripe's matter to whom: a registry. Whoever handles some registers a function for their types.

A handler is called at least once, in any order, and never within a transaction: what it writes it writes so that a
second time changes nothing, and what it needs to know it asks Stripe, since an event may be old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import Any, Final
from uuid import UUID

from billing.models import StripeAccount

MODULES: Final = (
    "billing.services.stripe_handlers",
    "billing.services.payment_handlers",
    "billing.services.plan_events",
)
"""Modules that register handlers. Imported when the first event is handled."""


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One event. `tenant_id` and `account` are None for one of the platform's own account.

    `object` is what the event is about as it was then (of a thin event only its id): ask Stripe for what it is now.
    """

    tenant_id: UUID | None
    account: StripeAccount | None
    event_id: str
    type: str
    object: Mapping[str, Any]
    happened_at: datetime
    now: datetime


Handler = Callable[[Happened], None]
_handlers: dict[tuple[bool, str], list[Handler]] = {}


def handles(*types: str, platform: bool = False) -> Callable[[Handler], Handler]:
    """Registers a function for types of events of tenants' accounts, or of the platform's own.

    A type that ends in `.*` stands for all that begin with what is before the star.
    """

    def register(handler: Handler) -> Handler:
        for type_ in types:
            _handlers.setdefault((platform, type_), []).append(handler)
        return handler

    return register


def handlers_of(type_: str, *, platform: bool) -> list[Handler]:
    """Those registered for a type, in the order of registration; each once."""
    for module in MODULES:
        import_module(module)
    words = type_.split(".")
    patterns = [type_, *(".".join(words[:at]) + ".*" for at in range(len(words) - 1, 0, -1))]
    found: list[Handler] = []
    for pattern in patterns:
        found += [each for each in _handlers.get((platform, pattern), []) if each not in found]
    return found
