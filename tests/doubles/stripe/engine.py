"""One request through the double: whose it is, what goes wrong, whether it was asked before, what it does."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.doubles.stripe import (
    catalogue,
    checkout,
    customers,
    events,
    grants,
    invoices,
    items,
    meters,
    payment_methods,
    payments,
    previews,
    returns,
    subscriptions,
)
from tests.doubles.stripe.failures import Failure, broken, rate_limited, unavailable
from tests.doubles.stripe.faults import Fault
from tests.doubles.stripe.listing import expand
from tests.doubles.stripe.routing import ROUTES, Call, find, route
from tests.doubles.stripe.spec import shared
from tests.doubles.stripe.wire import parse_form
from tests.doubles.stripe.world import Account, Object, World

HANDLERS = (
    catalogue, checkout, customers, events, grants, invoices, items, meters, payment_methods, payments,
    previews, returns, subscriptions,
)  # fmt: skip
"""The rooms whose routes are registered by being imported."""
KEPT_SECONDS = 86_400
"""For how long an Idempotency-Key is remembered; Stripe may prune it after that."""
_NO_CONCURRENCY = "/v1/billing/meter_events"


@dataclass
class Reply:
    """What goes back: an answer, or, with `close`, nothing; both after `wait` real seconds."""

    status: int = 200
    body: Object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    close: bool = False


@dataclass
class Kept:
    """An answer that a repeat of its Idempotency-Key gets again."""

    asked: str
    at: int
    reply: Reply | None = None


@route("GET", "/v1/account")
def retrieve_account(call: Call) -> Object:
    return {
        "id": call.account.id,
        "object": "account",
        "business_type": None,
        "charges_enabled": True,
        "country": "US",
        "created": 1_600_000_000,
        "default_currency": "usd",
        "details_submitted": True,
        "email": f"{call.account.id}@example.com",
        "payouts_enabled": True,
        "settings": None,
        "type": "standard",
    }


@route("GET", "/v1/accounts/{account}")
def retrieve_connected(call: Call) -> Object:
    name = call.args["account"]
    if name != call.account.id and name not in call.world.connected[call.account.id]:
        said = f"The provided key does not have access to account '{name}'"
        raise Failure(403, said, code="account_invalid")
    other = Call(call.world, call.world.account(name), {}, {}, call.request_id)
    return retrieve_account(other)


class Engine:
    """Answers requests. Safe to be asked by many threads at once."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or World()
        self.spec = shared(tuple(sorted((each.method, each.path) for each in ROUTES)))

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        """Answers one request; header names are lower case."""
        url = urlsplit(target)
        with self.world.lock:
            self.world.clock.tick()
            request_id = self.world.new_id("req")
        entry: dict[str, Any] = {"id": request_id, "method": method, "path": url.path}
        try:
            reply = self._handle(method, url.path, url.query, headers, body, request_id, entry)
        except Failure as failure:
            reply = Reply(failure.status, failure.body, dict(failure.headers))
        reply.headers.setdefault("request-id", request_id)
        reply.headers.setdefault("stripe-version", headers.get("stripe-version", events.API_VERSION))
        with self.world.lock:
            entry.update(status=None if reply.close else reply.status, at=self.world.clock.now)
            self.world.note(entry)
        return reply

    def _handle(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        request_id: str,
        entry: dict[str, Any],
    ) -> Reply:
        with self.world.lock:
            key, account = self._account(headers)
            entry["account"] = account.id
            fault = self.world.faults.of(method, path, account.id, self.world.clock.now)
        entry["fault"] = fault.kind if fault else None
        reply = _before(fault)
        if reply is not None:
            return reply
        if not self._allowed(key, method, path):
            said = (
                f"The provided key '{key[:8]}***' does not have the required permissions for this endpoint."
            )
            raise Failure(403, said, code="more_permissions_required")
        if path.startswith("/v2/") and body:
            params = json.loads(body)
        elif path.startswith("/v2/"):
            params = _listed_v2(parse_form(query))
        else:
            params = parse_form(body.decode() if method == "POST" else query)
        entry["params"] = params
        entry["idempotency_key"] = headers.get("idempotency-key")
        with self._lane(account, path, params, fault), self.world.lock:
            reply = self._once(account, method, path, params, headers, request_id)
        return _after(fault, reply, lambda: self._forget_answer(account, headers))

    def _account(self, headers: dict[str, str]) -> tuple[str, Account]:
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise Failure(401, "You did not provide an API key.")
        home = self.world.account_of_key(key)
        other = headers.get("stripe-account") or headers.get("stripe-context")
        if other and other != home.id:
            if other not in self.world.connected[home.id]:
                said = f"The provided key '{key[:8]}***' does not have access to account '{other}'"
                raise Failure(403, said, code="account_invalid")
            return key, self.world.account(other)
        return key, home

    def _allowed(self, key: str, method: str, path: str) -> bool:
        return not any(f"{method} {path}".startswith(rule) for rule in self.world.denied.get(key, []))

    @contextlib.contextmanager
    def _lane(
        self, account: Account, path: str, params: dict[str, Any], fault: Fault | None
    ) -> Iterator[None]:
        """One meter event at a time for a customer and meter; a second one at once gets 429."""
        wait = self.world.settings.meter_event_seconds if path == _NO_CONCURRENCY else 0.0
        if fault is not None and fault.kind == "slow":
            wait += fault.seconds
        with self.world.lock:
            found = meters.lane(account, params) if path == _NO_CONCURRENCY else None
            wake, busy = self.world.wake, self.world.busy
            name = (account.id, *found) if found is not None else None
            if name in busy:
                said = "This object cannot be accessed right now because another API request is accessing it."
                raise rate_limited(said, "resource-specific")
            if name is not None:
                busy.add(name)
        try:
            if wait:
                wake.wait(wait)
            yield
        finally:
            with self.world.lock:
                busy.discard(name)

    def _once(
        self,
        account: Account,
        method: str,
        path: str,
        params: dict[str, Any],
        headers: dict[str, str],
        request_id: str,
    ) -> Reply:
        key, now = headers.get("idempotency-key"), self.world.clock.now
        if method != "POST" or key is None:
            return self._run(account, method, path, params, request_id, key)
        if len(key) > 255:
            raise Failure(400, "Idempotency keys are at most 255 characters.", kind="idempotency_error")
        asked = hashlib.sha256(json.dumps([path, params], sort_keys=True).encode()).hexdigest()
        kept = account.answers.get(key)
        if kept is not None and now - kept.at < KEPT_SECONDS:
            if kept.asked != asked:
                said = (
                    "Keys for idempotent requests can only be used with the same parameters they were first "
                    f"used with. Try using a key other than '{key}' if you meant to execute a different request."
                )
                raise Failure(400, said, kind="idempotency_error")
            assert kept.reply is not None
            again = {**kept.reply.headers, "idempotent-replayed": "true"}
            return Reply(kept.reply.status, kept.reply.body, again)
        try:
            reply = self._run(account, method, path, params, request_id, key)
        except Failure as failure:
            if not failure.keeps:
                raise
            reply = Reply(failure.status, failure.body, dict(failure.headers))
        reply.headers.update({"request-id": request_id, "idempotency-key": key})
        account.answers[key] = Kept(asked, now, reply)
        return Reply(reply.status, reply.body, dict(reply.headers))

    def _forget_answer(self, account: Account, headers: dict[str, str]) -> None:
        kept = account.answers.get(headers.get("idempotency-key", ""))
        if kept is not None:
            failure = broken()
            kept.reply = Reply(failure.status, failure.body, dict(failure.headers))

    def _run(
        self,
        account: Account,
        method: str,
        path: str,
        params: dict[str, Any],
        request_id: str,
        key: str | None,
    ) -> Reply:
        found = find(method, path)
        if found is None:
            raise Failure(404, f"Unrecognized request URL ({method}: {path}).")
        chosen, args = found
        name = (chosen.method, chosen.path)
        typed = self.spec.read(name, params)
        call = Call(self.world, account, typed, args, request_id, key)
        answer = chosen.handler(call)
        answer = expand(account, answer, typed.get("expand", []))
        # What Stripe could not have answered is a defect of the double, and must not pass as Stripe's.
        frozen: Object = json.loads(json.dumps(answer))
        self.spec.check(name, frozen)
        return Reply(200, frozen)


def _listed_v2(params: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in params.items()}


def _before(fault: Fault | None) -> Reply | None:
    if fault is None:
        return None
    match fault.kind:
        case "error_before":
            failure = broken()
        case "rate_limit":
            failure = rate_limited("Request rate limit exceeded.", "global-rate")
        case "lock":
            failure = rate_limited("Another API request is accessing this object.", "resource-specific")
        case "outage":
            failure = unavailable()
        case "drop_before" | "dark":
            return Reply(close=True)
        case "hang_before":
            return Reply(close=True, wait=fault.seconds)
        case _:
            return None
    return Reply(failure.status, failure.body, dict(failure.headers))


def _after(fault: Fault | None, reply: Reply, forget: Any) -> Reply:
    if fault is None:
        return reply
    match fault.kind:
        case "error_after":
            if fault.kept:
                forget()
            failure = broken()
            return Reply(failure.status, failure.body, dict(failure.headers))
        case "drop_after":
            return Reply(close=True)
        case "hang_after":
            return Reply(close=True, wait=fault.seconds)
    return reply
