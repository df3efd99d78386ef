"""Events: v1 snapshots and v2 thin ones, where they go, and with what signature."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.doubles.stripe.failures import Failure, missing
from tests.doubles.stripe.listing import page
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object, World

API_VERSION = "2026-10-28.endive"
ATTEMPTS_MAX = 16


@dataclass
class Delivery:
    """One event on its way to one address."""

    account: str
    url: str
    event_id: str
    kind: str
    body: str
    secret: str
    attempts: int = 0
    statuses: list[int] = field(default_factory=list)
    done: bool = False

    def headers(self, at: int) -> dict[str, str]:
        """What goes with the body, signed for a time."""
        signature = hmac.new(self.secret.encode(), f"{at}.{self.body}".encode(), hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": f"t={at},v1={signature}",
        }


def signing_time(world: World) -> int:
    """The time that a signature made now carries."""
    return int(time.time()) if world.settings.signed_at == "wall" else world.clock.now


def emit(
    account: Account,
    kind: str,
    about: Object,
    before: dict[str, Any] | None = None,
    request: tuple[str | None, str | None] = (None, None),
) -> Object:
    """Records a snapshot event and puts it on its way to every endpoint that wants it."""
    world = account.world
    data: dict[str, Any] = {"object": copy.deepcopy(about)}
    if before is not None:
        data["previous_attributes"] = copy.deepcopy(before)
    event: Object = {
        "id": world.new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": world.clock.now,
        "data": data,
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": request[0], "idempotency_key": request[1]},
        "type": kind,
    }
    account.add("event", event)
    for home, endpoint in _endpoints(account):
        if _wants(endpoint["enabled_events"], kind):
            event["pending_webhooks"] += 1
            # An endpoint for connected accounts is told whose event it is.
            sent = event if home is account else {**event, "account": account.id}
            _send(home, endpoint["url"], sent, home.side[endpoint["id"]]["secret"])
    for home, destination in _destinations(account):
        if destination["event_payload"] == "snapshot" and _wants(destination["enabled_events"], kind):
            sent = event if home is account else {**event, "account": account.id}
            _send(home, destination["webhook_endpoint"]["url"], sent, _secret(home, destination))
    return event


def emit_thin(account: Account, kind: str, related: Object | None, data: dict[str, Any]) -> Object:
    """Records a thin event: what is sent names it alone, the data must be fetched."""
    world = account.world
    created = datetime.fromtimestamp(world.clock.now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    notice: Object = {
        "id": world.new_id("evt_test"),
        "object": "v2.core.event",
        "type": kind,
        "livemode": False,
        "created": created,
        "reason": None,
    }
    if related is not None:
        notice["related_object"] = {
            "id": related["id"],
            "type": related["object"],
            "url": f"/v1/billing/meters/{related['id']}",
        }
    account.add("thin_event", {**notice, "data": data})
    for home, destination in _destinations(account):
        if destination["event_payload"] == "thin" and _wants(destination["enabled_events"], kind):
            sent = notice if home is account else {**notice, "context": account.id}
            _send(home, destination["webhook_endpoint"]["url"], sent, _secret(home, destination))
    return notice


def _wants(enabled: list[str], kind: str) -> bool:
    return "*" in enabled or kind in enabled


def _parents(account: Account) -> list[Account]:
    world = account.world
    return [world.account(name) for name, children in world.connected.items() if account.id in children]


def _endpoints(account: Account) -> list[tuple[Account, Object]]:
    own = [(account, each) for each in account.tables["webhook_endpoint"].values()]
    mine = [(home, each) for home, each in own if not home.side[each["id"]]["connect"]]
    theirs = [
        (parent, each)
        for parent in _parents(account)
        for each in parent.tables["webhook_endpoint"].values()
        if parent.side[each["id"]]["connect"]
    ]
    return [(home, each) for home, each in mine + theirs if each["status"] == "enabled"]


def _destinations(account: Account) -> list[tuple[Account, Object]]:
    mine = [(account, each, "@self") for each in account.tables["event_destination"].values()]
    theirs = [
        (parent, each, "@accounts")
        for parent in _parents(account)
        for each in parent.tables["event_destination"].values()
    ]
    return [
        (home, each)
        for home, each, source in mine + theirs
        if each["status"] == "enabled" and source in each["events_from"]
    ]


def _secret(home: Account, destination: Object) -> str:
    secret: str = home.side[destination["id"]]["secret"]
    return secret


def _send(home: Account, url: str, event: Object, secret: str) -> None:
    body = json.dumps(event, indent=2)
    home.world.deliveries.append(Delivery(home.id, url, event["id"], event["type"], body, secret))


@route("GET", "/v1/events")
def list_events(call: Call) -> Object:
    wanted, kinds = call.params.get("type"), call.params.get("types")
    rows = [
        each
        for each in reversed(call.account.tables["event"].values())
        if (wanted is None or _named(wanted, each["type"])) and (kinds is None or each["type"] in kinds)
    ]
    return page(call, rows, "/v1/events")


def _named(wanted: str, kind: str) -> bool:
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted


@route("GET", "/v1/events/{id}")
def retrieve_event(call: Call) -> Object:
    return call.found("event")


@route("GET", "/v2/core/events/{id}")
def retrieve_thin_event(call: Call) -> Object:
    found = call.account.get("thin_event", call.args["id"])
    if found is None:
        raise missing("event", call.args["id"])
    return found


@route("GET", "/v2/core/events")
def list_thin_events(call: Call) -> Object:
    rows = list(reversed(call.account.tables["thin_event"].values()))
    if "object_id" in call.params:
        rows = [row for row in rows if row.get("related_object", {}).get("id") == call.params["object_id"]]
    return {
        "data": rows[: int(call.params.get("limit", 20))],
        "next_page_url": None,
        "previous_page_url": None,
    }


@route("POST", "/v1/webhook_endpoints")
def create_endpoint(call: Call) -> Object:
    endpoint: Object = {
        "id": call.world.new_id("we"),
        "object": "webhook_endpoint",
        "api_version": call.params.get("api_version"),
        "application": None,
        "created": call.now,
        "description": call.params.get("description") or None,
        "enabled_events": list(call.params["enabled_events"]),
        "livemode": False,
        "metadata": merge_metadata({}, call.params.get("metadata")),
        "status": "enabled",
        "url": call.params["url"],
    }
    call.account.add("webhook_endpoint", endpoint)
    secret = _new_secret(call, endpoint["id"])
    call.account.side[endpoint["id"]] = {"secret": secret, "connect": call.params.get("connect", False)}
    # The secret is told once, here.
    return {**endpoint, "secret": secret}


def _new_secret(call: Call, name: str) -> str:
    return "whsec_" + hashlib.sha256(f"{call.account.id} {name}".encode()).hexdigest()[:32]


@route("GET", "/v1/webhook_endpoints")
def list_endpoints(call: Call) -> Object:
    rows = list(reversed(call.account.tables["webhook_endpoint"].values()))
    return page(call, rows, "/v1/webhook_endpoints")


@route("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve_endpoint(call: Call) -> Object:
    return call.found("webhook_endpoint", "webhook_endpoint")


@route("POST", "/v1/webhook_endpoints/{webhook_endpoint}")
def update_endpoint(call: Call) -> Object:
    endpoint = call.found("webhook_endpoint", "webhook_endpoint")
    change(endpoint, call.params, "description", "enabled_events", "url")
    if "disabled" in call.params:
        endpoint["status"] = "disabled" if call.params["disabled"] else "enabled"
    return endpoint


@route("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(call: Call) -> Object:
    endpoint = call.found("webhook_endpoint", "webhook_endpoint")
    del call.account.tables["webhook_endpoint"][endpoint["id"]]
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


@route("POST", "/v2/core/event_destinations")
def create_destination(call: Call) -> Object:
    params = call.params
    for name in ("name", "type", "event_payload", "enabled_events"):
        if name not in params:
            raise Failure(400, f"Missing required param: {name}.", code="parameter_missing", param=name)
    if params["type"] != "webhook_endpoint" or "url" not in params.get("webhook_endpoint", {}):
        raise Failure(400, "The double sends to webhook endpoints alone.", param="type")
    moment = datetime.fromtimestamp(call.now, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    made: Object = {
        "id": call.world.new_id("ed_test"),
        "object": "v2.core.event_destination",
        "created": moment,
        "description": params.get("description", ""),
        "enabled_events": list(params["enabled_events"]),
        "event_payload": params["event_payload"],
        "events_from": list(params.get("events_from", ["@self"])),
        "livemode": False,
        "metadata": dict(params.get("metadata", {})),
        "name": params["name"],
        "snapshot_api_version": params.get("snapshot_api_version"),
        "status": "enabled",
        "status_details": None,
        "type": "webhook_endpoint",
        "updated": moment,
        "webhook_endpoint": {"url": params["webhook_endpoint"]["url"], "signing_secret": None},
    }
    call.account.add("event_destination", made)
    call.account.side[made["id"]]["secret"] = _new_secret(call, made["id"])
    return _with_secret(call, made)


def _with_secret(call: Call, made: Object) -> Object:
    shown = call.params.get("include", [])
    hook = dict(made["webhook_endpoint"])
    if "webhook_endpoint.signing_secret" in shown:
        hook["signing_secret"] = call.account.side[made["id"]]["secret"]
    if "webhook_endpoint.url" not in shown:
        hook["url"] = None
    return {**made, "webhook_endpoint": hook}


@route("GET", "/v2/core/event_destinations")
def list_destinations(call: Call) -> Object:
    rows = [_with_secret(call, each) for each in reversed(call.account.tables["event_destination"].values())]
    return {"data": rows, "next_page_url": None, "previous_page_url": None}


@route("GET", "/v2/core/event_destinations/{id}")
def retrieve_destination(call: Call) -> Object:
    return _with_secret(call, call.found("event_destination"))


@route("POST", "/v2/core/event_destinations/{id}")
def update_destination(call: Call) -> Object:
    held = call.found("event_destination")
    change(held, {**call.params}, "description", "enabled_events", "name")
    if "url" in call.params.get("webhook_endpoint", {}):
        held["webhook_endpoint"]["url"] = call.params["webhook_endpoint"]["url"]
    return _with_secret(call, held)


@route("DELETE", "/v2/core/event_destinations/{id}")
def delete_destination(call: Call) -> Object:
    held = call.found("event_destination")
    del call.account.tables["event_destination"][held["id"]]
    return {"id": held["id"], "object": "v2.core.event_destination", "deleted": True}
