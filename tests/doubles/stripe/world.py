"""Everything the double knows: accounts, what they hold, keys, faults, the clock, and what was asked."""

from __future__ import annotations

import hashlib
import random
import secrets
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.stripe.clock import Clock
from tests.doubles.stripe.failures import Failure, no_reference
from tests.doubles.stripe.faults import Faults

Object = dict[str, Any]
LOG_MAX = 200_000


@dataclass
class Settings:
    """How Stripe behaves where that is a matter of time or of mood. Seconds are the double's clock's."""

    summary_lag_seconds: int = 30
    """For how long an accepted meter event is not yet in summaries and previews."""
    report_lag_seconds: int = 60
    """How long after a meter event's failure its error report is sent."""
    search_lag_seconds: int = 60
    """For how long a new object is not found by a search. Stripe: under a minute."""
    finalize_after_seconds: int = 3600
    """How long a renewal's invoice stays a draft."""
    retry_after_days: tuple[int, ...] = (3, 5, 7)
    """When a failed payment is tried again, counted from the try before."""
    after_retries: str = "canceled"
    """What becomes of the subscription when all tries failed: canceled, unpaid or past_due."""
    report_samples: int = 5
    """How many failures of a kind an error report shows."""
    minimum_charge: int = 50
    """Cents below which an invoice is not collected but carried to the customer's balance."""
    values: str = "refuse"
    """What becomes of a meter event with a bad value: refuse (400) or report (200 and a report)."""
    signed_at: str = "wall"
    """Whose time a webhook's signature carries: wall, which the client compares with its own, or clock."""
    meter_event_seconds: float = 0.0
    """How long, in real time, a meter event is at work; a second one for its customer and meter gets 429."""


@dataclass
class Account:
    """One Stripe account: nothing in it is seen from another one."""

    id: str
    world: World
    tables: dict[str, dict[str, Object]] = field(default_factory=lambda: defaultdict(dict))
    answers: dict[str, Any] = field(default_factory=dict)
    """What Idempotency-Keys were answered."""
    counted: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Meter events by meter and customer, as meters.Entry, by their time."""
    identifiers: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    """Planned jobs by the id and kind of what they are for."""
    side: dict[str, dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))
    """What the double knows of an object beyond what Stripe shows of it."""

    def add(self, kind: str, made: Object) -> Object:
        """Keeps a new object."""
        self.tables[kind][made["id"]] = made
        return made

    def get(self, kind: str, name: Any) -> Object | None:
        """An object of this account by its id, or None."""
        return self.tables[kind].get(name) if isinstance(name, str) else None

    def need(self, kind: str, name: Any, param: str) -> Object:
        """An object that a parameter names. Raises Failure."""
        found = self.get(kind, name)
        if found is None:
            raise no_reference(kind, str(name), param)
        return found

    def having(self, kind: str, **values: Any) -> list[Object]:
        """All objects of a kind with these values, oldest first."""
        return [
            each
            for each in self.tables[kind].values()
            if all(each.get(name) == value for name, value in values.items())
        ]


class World:
    """All accounts of one double."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.wake = threading.Event()
        self._salt = secrets.token_hex(8)
        self._next = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything; requests that wait go on."""
        self.let_go()
        self.clock = Clock()
        self.settings = Settings()
        self.faults = Faults()
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, str] = {}
        self.revoked: set[str] = set()
        self.denied: dict[str, list[str]] = {}
        self.connected: dict[str, set[str]] = defaultdict(set)
        self.deliveries: list[Any] = []
        self.chance = random.Random(0)  # Faults must be repeatable, not secret.
        self.log: list[dict[str, Any]] = []
        self.busy: set[tuple[str, ...] | None] = set()
        """What meter events are at work on: account, customer, meter."""

    def let_go(self) -> None:
        """Ends the waiting of requests that are slow on purpose."""
        self.wake.set()
        self.wake = threading.Event()

    def new_id(self, prefix: str) -> str:
        """Returns an id that nothing else has, in no other double either; later ones sort behind earlier ones."""
        self._next += 1
        return f"{prefix}_{self._next:08d}{self._salt}"

    def account(self, name: str) -> Account:
        """Returns an account, making it when it is new."""
        if name not in self.accounts:
            self.accounts[name] = Account(name, self)
        return self.accounts[name]

    def account_of_key(self, key: str) -> Account:
        """Returns the account of a secret key. A key not seen before opens an account of its own.

        Raises Failure for what is no secret key, and for a revoked one.
        """
        if not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
            raise Failure(401, f"Invalid API Key provided: {key[:8]}***")
        if key in self.revoked:
            raise Failure(401, "Expired API Key provided", code="api_key_expired")
        name = self.keys.setdefault(key, f"acct_{hashlib.sha256(key.encode()).hexdigest()[:16]}")
        return self.account(name)

    def note(self, entry: dict[str, Any]) -> None:
        """Remembers a request, LOG_MAX of them at most."""
        self.log.append(entry)
        if len(self.log) > LOG_MAX:
            del self.log[: LOG_MAX // 2]
