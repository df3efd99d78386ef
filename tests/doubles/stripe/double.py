"""A running double, in this process or in one of its own, and its controls."""

from __future__ import annotations

import http.client
import json
import threading
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any

import stripe

from tests.doubles.program import Program, free_port
from tests.doubles.stripe.server import Server

KEY = "rk_test_double"


class ControlError(ValueError):
    """A control command that could not be carried out; `error` is what was said."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", error))
        self.error = error


class StripeDouble:
    """A running double. Use it as a context manager; `process=True` gives it a process of its own.

    Each key opens an account of its own. `client(key)` is the real client on it.
    """

    def __init__(self, *, process: bool = False, port: int | None = None) -> None:
        self.port = port or (free_port() if process else 0)
        self._program = Program("the Stripe double", "tests.doubles.stripe", self.port) if process else None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address, for `base_addresses={"api": url}`."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = KEY, *, account: str | None = None, retries: int = 0) -> stripe.StripeClient:
        """Returns Stripe's own client for a key, talking to this double."""
        return stripe.StripeClient(
            key,
            stripe_account=account,
            base_addresses={"api": self.url, "meter_events": self.url},
            max_network_retries=retries,
        )

    def start(self) -> StripeDouble:
        """Starts it and returns once it answers."""
        if self._program is None:
            self._server = Server(self.port)
            self.port = int(self._server.server_address[1])
            self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)
            self._thread.start()
            return self
        self._program.start(lambda: self._ask("GET", "/healthz", None))
        return self

    def stop(self) -> None:
        """Ends it."""
        if self._server is not None and self._thread is not None:
            self._server.end()
            self._thread.join()
            self._server = self._thread = None
        if self._program is not None:
            self._program.stop()

    def __enter__(self) -> StripeDouble:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def control(self, command: str, **message: Any) -> Any:
        """Carries out a command of controls.Controls. Raises ControlError."""
        return self._ask("POST", f"/__control/{command}", message)["result"]

    def reset(self, now: datetime | None = None) -> None:
        """Forgets everything, and puts the clock where it is told."""
        self.control("reset")
        if now is not None:
            self.set_clock(now)

    @property
    def now(self) -> datetime:
        """The double's time."""
        return datetime.fromtimestamp(self.control("clock")["now"], UTC)

    def set_clock(self, at: datetime) -> None:
        """Puts a fresh double's clock anywhere; it stands there."""
        self.control("clock", set=int(at.timestamp()))

    def move(self, to: datetime) -> datetime:
        """Moves the clock on to a time; what becomes due on the way is done."""
        return datetime.fromtimestamp(self.control("clock", move=int(to.timestamp()))["now"], UTC)

    def advance(self, **delta: float) -> datetime:
        """Moves the clock on by so much: `advance(hours=1)`."""
        seconds = int(timedelta(**delta).total_seconds())
        return datetime.fromtimestamp(self.control("clock", advance=seconds)["now"], UTC)

    def fault(self, kind: str, **how: Any) -> dict[str, Any]:
        """Tells it to do something wrong: faults.py has the kinds."""
        told: dict[str, Any] = self.control("fault", kind=kind, **how)
        return told

    def heal(self) -> None:
        """Takes all faults back."""
        self.control("heal")

    def settings(self, **values: Any) -> dict[str, Any]:
        """Sets fields of world.Settings."""
        told: dict[str, Any] = self.control("settings", **values)
        return told

    def account(self, key: str = KEY) -> str:
        """Returns the id of a key's account."""
        return str(self.control("key", key=key)["account"])

    def connect(self, key: str, account: str | None = None) -> str:
        """Connects an account to a platform's key and returns its id."""
        return str(self.control("connect", key=key, account=account)["account"])

    def pay_checkout(self, session: str, *, key: str = KEY, card: str = "pm_card_visa", **where: Any) -> Any:
        """The customer pays on the hosted page. Raises ControlError when the card does not."""
        return self.control("pay_checkout", session=session, card=card, key=key, **where)

    def pay_invoice(self, invoice: str, *, key: str = KEY, card: str = "pm_card_visa", **where: Any) -> Any:
        """The same on an invoice's hosted page."""
        return self.control("pay_invoice", invoice=invoice, card=card, key=key, **where)

    def deliver(self, **how: Any) -> list[dict[str, Any]]:
        """Posts all events that wait: `order`, `duplicates`, `only`, `at_once`."""
        done: list[dict[str, Any]] = self.control("deliver", **how)
        return done

    def deliveries(self, **how: Any) -> list[dict[str, Any]]:
        """Takes all events that wait, with body, headers and url, for a test that posts by itself."""
        taken: list[dict[str, Any]] = self.control("deliveries", **how)
        return taken

    def objects(
        self, kind: str, *, key: str | None = KEY, account: str | None = None
    ) -> list[dict[str, Any]]:
        """Returns all objects of a kind in an account: invoice, customer, subscription, meter_event, …"""
        where = {"account": account} if account is not None else {"key": key}
        found: list[dict[str, Any]] = self.control("objects", kind=kind, **where)
        return found

    def requests(self, *, path: str | None = None, after: int = 0) -> list[dict[str, Any]]:
        """Returns what was asked of it."""
        asked: list[dict[str, Any]] = self.control("requests", path=path, after=after)
        return asked

    def broken(self) -> list[str]:
        """Returns the double's own defects: answers that Stripe could not have given. Tests hold it empty."""
        found: list[str] = self.control("broken")
        return found

    def _ask(self, method: str, path: str, message: dict[str, Any] | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            body = None if message is None else json.dumps(message)
            connection.request(method, path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            read = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 400:
            raise ControlError(read["error"])
        return read
