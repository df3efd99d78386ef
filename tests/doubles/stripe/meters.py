"""Billing meters, what is reported to them, and what they add up to.

A meter event that is accepted may still fail: its customer or its meter does not exist, or the meter is
archived. That is told later, by a thin event that shows a few samples of each kind.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, insort
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.doubles.stripe import events
from tests.doubles.stripe.failures import Failure, no_reference
from tests.doubles.stripe.listing import listed, page
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object

DAY = 86_400
PAST_SECONDS = 35 * DAY
AHEAD_SECONDS = 5 * 60
UNIQUE_SECONDS = DAY
DIGITS_MAX = 15
_INTEGER = re.compile(r"^-?\d+$")
_NO_RETRY = {"stripe-should-retry": "false"}


@dataclass
class Entry:
    """One meter event that counts, once the lag is over and unless it was cancelled."""

    identifier: str
    customer: str
    timestamp: int
    value: int
    received_at: int
    cancelled: bool = False


@route("POST", "/v1/billing/meters")
def create_meter(call: Call) -> Object:
    params = call.params
    for held in call.account.having("meter", event_name=params["event_name"]):
        if held["status"] == "active":
            raise Failure(
                400,
                f"A meter with the event name `{params['event_name']}` already exists.",
                code="resource_already_exists",
                param="event_name",
            )
    made: Object = {
        "id": call.world.new_id("mtr_test"),
        "object": "billing.meter",
        "created": call.now,
        "customer_mapping": params.get("customer_mapping")
        or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "livemode": False,
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": call.now,
        "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
    }
    call.account.add("meter", made)
    call.emit("billing.meter.created", made)
    return made


@route("GET", "/v1/billing/meters")
def list_meters(call: Call) -> Object:
    return listed(call, "meter", "/v1/billing/meters")


@route("GET", "/v1/billing/meters/{id}")
def retrieve_meter(call: Call) -> Object:
    return call.found("meter")


@route("POST", "/v1/billing/meters/{id}")
def update_meter(call: Call) -> Object:
    held = call.found("meter")
    held["display_name"] = call.params.get("display_name", held["display_name"])
    held["updated"] = call.now
    call.emit("billing.meter.updated", held, {})
    return held


@route("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate_meter(call: Call) -> Object:
    held = call.found("meter")
    held.update(status="inactive", updated=call.now, status_transitions={"deactivated_at": call.now})
    call.emit("billing.meter.deactivated", held)
    return held


@route("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate_meter(call: Call) -> Object:
    held = call.found("meter")
    held.update(status="active", updated=call.now, status_transitions={"deactivated_at": None})
    call.emit("billing.meter.reactivated", held)
    return held


def named(account: Account, event_name: str) -> Object | None:
    """Returns the meter that an event's name means: the active one, else the newest."""
    found = account.having("meter", event_name=event_name)
    active = [each for each in found if each["status"] == "active"]
    chosen = active or found
    return chosen[-1] if chosen else None


def lane(account: Account, params: dict[str, Any]) -> tuple[str, str] | None:
    """Returns the (customer, meter) of which one call at a time may be at work."""
    meter = named(account, str(params.get("event_name")))
    payload = params.get("payload")
    if meter is None or not isinstance(payload, dict):
        return None
    return str(payload.get(meter["customer_mapping"]["event_payload_key"])), meter["id"]


@route("POST", "/v1/billing/meter_events")
def create_event(call: Call) -> Object:
    params, account, now = call.params, call.account, call.now
    identifier = params.get("identifier") or call.world.new_id("mev")
    timestamp = params.get("timestamp", now)
    if timestamp < now - PAST_SECONDS:
        raise Failure(
            400,
            "The timestamp must be within the past 35 days.",
            code="timestamp_too_far_in_past",
            param="timestamp",
            keeps=True,
        )
    if timestamp > now + AHEAD_SECONDS:
        raise Failure(
            400,
            "The timestamp must not be more than 5 minutes in the future.",
            code="timestamp_in_future",
            param="timestamp",
            keeps=True,
        )
    meter = named(account, params["event_name"])
    value = _value(call, meter)
    seen = account.identifiers.get(identifier)
    if seen is not None and now - seen < UNIQUE_SECONDS:
        # No code, and not to be tried again: whoever reads this as a failure stalls for ever.
        raise Failure(
            400, f"An event already exists with identifier {identifier}.", keeps=True, headers=_NO_RETRY
        )
    account.identifiers[identifier] = now
    _count(call, meter, identifier, timestamp, value)
    return {
        "object": "billing.meter_event",
        "created": now,
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": {name: str(each) for name, each in params["payload"].items()},
        "timestamp": timestamp,
    }


def _value(call: Call, meter: Object | None) -> str | None:
    key = meter["value_settings"]["event_payload_key"] if meter else "value"
    if meter is not None and meter["default_aggregation"]["formula"] == "count":
        return "1"
    value = call.params["payload"].get(key)
    text = None if value is None else str(value)
    good = text is not None and _INTEGER.match(text) and len(text.lstrip("-")) <= DIGITS_MAX
    if not good and call.world.settings.values == "refuse":
        raise Failure(
            400,
            f"Invalid value for payload[{key}]: send an integer of at most {DIGITS_MAX} digits as a string.",
            param=f"payload[{key}]",
            keeps=True,
        )
    return text


def _count(call: Call, meter: Object | None, identifier: str, timestamp: int, value: str | None) -> None:
    account = call.account
    if meter is None:
        name = call.params["event_name"]
        _report(call, None, "no_meter", f"No meter found for event name {name}.")
        return
    if meter["status"] != "active":
        _report(call, meter, "archived_meter", "The meter is archived.")
        return
    key = meter["customer_mapping"]["event_payload_key"]
    customer = call.params["payload"].get(key)
    if not customer:
        _report(call, meter, "meter_event_no_customer_defined", f"The payload has no {key}.")
        return
    held = account.get("customer", customer)
    if held is None or held.get("deleted"):
        _report(call, meter, "meter_event_customer_not_found", f"Customer {customer} was not found.")
        return
    if value is None or not _INTEGER.match(value):
        _report(call, meter, "meter_event_invalid_value", f"The value {value} is not a number.")
        return
    if len(value.lstrip("-")) > DIGITS_MAX:
        _report(call, meter, "meter_event_value_too_many_digits", "The value has too many digits.")
        return
    entry = Entry(identifier, customer, timestamp, int(value), call.now)
    # By time, and by arrival within a second, so that a period is a slice.
    insort(account.counted[f"{meter['id']} {customer}"], entry, key=lambda each: each.timestamp)
    account.side["entries"][identifier] = entry


def _report(call: Call, meter: Object | None, code: str, said: str) -> None:
    account, settings = call.account, call.world.settings
    name = meter["id"] if meter else "no_meter"
    waiting = account.side["error_reports"].setdefault(name, {"since": call.now, "codes": {}})
    # The sample names the request's idempotency key, not the event's identifier.
    waiting["codes"].setdefault(code, []).append((said, call.idempotency_key))
    if len(waiting["codes"]) == 1 and len(waiting["codes"][code]) == 1:
        call.world.clock.at(call.now + settings.report_lag_seconds, lambda: _send_report(account, name))


def _send_report(account: Account, name: str) -> None:
    waiting = account.side["error_reports"].pop(name)
    most = account.world.settings.report_samples
    kinds = [
        {
            "code": code,
            "error_count": len(failed),
            "sample_errors": [
                {"error_message": said, "request": {"identifier": key}} for said, key in failed[:most]
            ],
        }
        for code, failed in waiting["codes"].items()
    ]
    total = sum(len(failed) for failed in waiting["codes"].values())
    data = {
        "developer_message_summary": f"There were {total} errors",
        "reason": {"error_count": total, "error_types": kinds},
        "validation_start": _moment(waiting["since"]),
        "validation_end": _moment(account.world.clock.now),
    }
    meter = account.get("meter", name)
    kind = "v1.billing.meter.no_meter_found" if meter is None else "v1.billing.meter.error_report_triggered"
    events.emit_thin(account, kind, meter, data)


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@route("POST", "/v1/billing/meter_event_adjustments")
def create_adjustment(call: Call) -> Object:
    wanted = (call.params.get("cancel") or {}).get("identifier")
    found: Entry | None = call.account.side["entries"].get(str(wanted))
    if found is None or found.cancelled:
        raise Failure(
            400, f"No event exists with identifier {wanted}.", param="cancel[identifier]", keeps=True
        )
    if call.now - found.received_at > DAY:
        said = "Events can be cancelled within 24 hours of their receipt."
        raise Failure(400, said, param="cancel[identifier]", keeps=True)
    found.cancelled = True
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": wanted},
        "event_name": call.params["event_name"],
        "livemode": False,
        "status": "complete",
        "type": "cancel",
    }


def used(account: Account, meter: Object, customer: str, start: int, end: int, *, lag: bool) -> int:
    """Returns what a customer's events add up to in [start, end), without those that lag behind or not."""
    newest = account.world.clock.now - (account.world.settings.summary_lag_seconds if lag else 0)
    held: list[Entry] = account.counted[f"{meter['id']} {customer}"]
    first = bisect_left(held, start, key=lambda each: each.timestamp)
    last = bisect_left(held, end, key=lambda each: each.timestamp)
    values = [each.value for each in held[first:last] if not each.cancelled and each.received_at <= newest]
    if meter["default_aggregation"]["formula"] == "last":
        return values[-1] if values else 0
    return sum(values)


@route("GET", "/v1/billing/meters/{id}/event_summaries")
def list_summaries(call: Call) -> Object:
    meter, params = call.found("meter"), call.params
    start, end, window = params["start_time"], params["end_time"], params.get("value_grouping_window")
    if params["customer"] not in call.account.tables["customer"]:
        raise no_reference("customer", params["customer"], "customer")
    step = {None: 60, "hour": 3600, "day": DAY}[window]
    for name, at in (("start_time", start), ("end_time", end)):
        if at % step:
            unit = {None: "minute", "hour": "hour", "day": "UTC day"}[window]
            raise Failure(400, f"{name} must be aligned with {unit} boundaries.", param=name)
    if start >= end:
        raise Failure(400, "start_time must be before end_time.", param="start_time")
    spans = (
        [(start, end)] if window is None else [(at, min(at + step, end)) for at in range(start, end, step)]
    )
    rows = []
    for first, last in spans:
        total = used(call.account, meter, params["customer"], first, last, lag=True)
        if not total and window is not None:
            continue
        name = hashlib.sha256(f"{meter['id']} {params['customer']} {first} {last}".encode()).hexdigest()[:20]
        rows.append(
            {
                "id": f"mtrsum_test_{name}",
                "object": "billing.meter_event_summary",
                "aggregated_value": total,
                "end_time": last,
                "livemode": False,
                "meter": meter["id"],
                "start_time": first,
            }
        )
    rows.reverse()
    return page(call, rows, f"/v1/billing/meters/{meter['id']}/event_summaries")
