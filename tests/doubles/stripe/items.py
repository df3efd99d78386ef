"""Subscription items by themselves."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe.failures import Failure, missing
from tests.doubles.stripe.listing import page
from tests.doubles.stripe.objects import change
from tests.doubles.stripe.renewals import items
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.subscriptions import update as update_subscription
from tests.doubles.stripe.world import Object


def _item(call: Call) -> tuple[Object, Object]:
    name = call.args["item"]
    for held in call.account.tables["subscription"].values():
        for each in items(held):
            if each["id"] == name:
                return held, each
    raise missing("subscription_item", name, "item")


def _through(call: Call, subscription: Object, ask: dict[str, Any]) -> Object:
    params = {"items": [ask]}
    if "proration_behavior" in call.params:
        params["proration_behavior"] = call.params["proration_behavior"]
    inner = Call(
        call.world,
        call.account,
        params,
        {"subscription_exposed_id": subscription["id"]},
        call.request_id,
        call.idempotency_key,
    )
    return update_subscription(inner)


@route("POST", "/v1/subscription_items")
def create(call: Call) -> Object:
    held = call.account.need("subscription", call.params["subscription"], "subscription")
    names = ("price", "quantity", "metadata")
    ask: dict[str, Any] = {name: call.params[name] for name in names if name in call.params}
    return items(_through(call, held, ask))[-1]


@route("GET", "/v1/subscription_items")
def list_items(call: Call) -> Object:
    held = call.account.need("subscription", call.params["subscription"], "subscription")
    return page(call, items(held), "/v1/subscription_items")


@route("GET", "/v1/subscription_items/{item}")
def retrieve(call: Call) -> Object:
    return _item(call)[1]


@route("POST", "/v1/subscription_items/{item}")
def update(call: Call) -> Object:
    held, each = _item(call)
    names = ("price", "quantity")
    ask: dict[str, Any] = {name: call.params[name] for name in names if name in call.params}
    if ask:
        _through(call, held, {"id": each["id"], **ask})
    found = _item(call)[1]
    change(found, call.params)
    return found


@route("DELETE", "/v1/subscription_items/{item}")
def delete(call: Call) -> Object:
    held, each = _item(call)
    if len(items(held)) == 1:
        raise Failure(400, "A subscription must have at least one item.", keeps=True)
    _through(call, held, {"id": each["id"], "deleted": True})
    return {"id": each["id"], "object": "subscription_item", "deleted": True}
