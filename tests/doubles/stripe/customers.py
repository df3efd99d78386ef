"""Customers and their balances."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe.failures import Failure, no_reference
from tests.doubles.stripe.listing import listed, page, searched
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object

_TEXTS = ("description", "email", "name", "phone", "address", "shipping", "tax_exempt")


def new_customer(call: Call, params: dict[str, Any]) -> Object:
    """Makes a customer and tells of it."""
    number = len(call.account.tables["customer"]) + 1
    made: Object = {
        "id": call.world.new_id("cus"),
        "object": "customer",
        "address": params.get("address") or None,
        "balance": params.get("balance", 0),
        "created": call.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": params.get("description") or None,
        "email": params.get("email") or None,
        "invoice_prefix": params.get("invoice_prefix") or f"NB{number:06d}",
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": merge_metadata({}, params.get("metadata")),
        "name": params.get("name") or None,
        "next_invoice_sequence": 1,
        "phone": params.get("phone") or None,
        "preferred_locales": params.get("preferred_locales") or [],
        "shipping": params.get("shipping") or None,
        "tax_exempt": params.get("tax_exempt") or "none",
        "test_clock": None,
    }
    call.account.add("customer", made)
    _settings(call.account, made, params)
    if params.get("payment_method"):
        from tests.doubles.stripe.payment_methods import attach

        attach(call, params["payment_method"], made["id"])
    call.emit("customer.created", made)
    return made


def need_customer(account: Account, name: Any, param: str = "customer") -> Object:
    """Returns a customer that is not deleted. Raises Failure."""
    held = account.need("customer", name, param)
    if held.get("deleted"):
        raise no_reference("customer", str(name), param)
    return held


def _settings(account: Account, held: Object, params: dict[str, Any]) -> None:
    given = params.get("invoice_settings") or {}
    method = given.get("default_payment_method")
    if method:
        owned = account.need("payment_method", method, "invoice_settings[default_payment_method]")
        if owned["customer"] != held["id"]:
            raise Failure(
                400,
                f"The customer does not have a payment method with the ID {method}.",
                code="resource_missing",
                param="invoice_settings[default_payment_method]",
            )
        held["invoice_settings"]["default_payment_method"] = method
    elif method == "":
        held["invoice_settings"]["default_payment_method"] = None


@route("POST", "/v1/customers")
def create(call: Call) -> Object:
    return new_customer(call, call.params)


@route("GET", "/v1/customers")
def list_customers(call: Call) -> Object:
    return listed(call, "customer", "/v1/customers", only=lambda row: not row.get("deleted"))


@route("GET", "/v1/customers/search")
def search(call: Call) -> Object:
    return searched(call, "customer", "/v1/customers/search")


@route("GET", "/v1/customers/{customer}")
def retrieve(call: Call) -> Object:
    return call.found("customer", "customer")


@route("POST", "/v1/customers/{customer}")
def update(call: Call) -> Object:
    held = need_customer(call.account, call.args["customer"])
    before = change(held, call.params, *_TEXTS)
    if "balance" in call.params and call.params["balance"] != held["balance"]:
        before["balance"] = held["balance"]
        post_balance(call.account, held, call.params["balance"] - held["balance"], "adjustment")
    was = dict(held["invoice_settings"])
    _settings(call.account, held, call.params)
    if was != held["invoice_settings"]:
        before["invoice_settings"] = was
    if before:
        # A search finds what was changed only after a while, too.
        call.account.side[held["id"]]["searchable_at"] = call.now
        call.emit("customer.updated", held, before)
    return held


@route("DELETE", "/v1/customers/{customer}")
def delete(call: Call) -> Object:
    held = need_customer(call.account, call.args["customer"])
    from tests.doubles.stripe.renewals import end_now

    for each in call.account.having("subscription", customer=held["id"]):
        if each["status"] not in ("canceled", "incomplete_expired"):
            end_now(call.account, each)
    call.emit("customer.deleted", held)
    gone = {"id": held["id"], "object": "customer", "deleted": True}
    call.account.tables["customer"][held["id"]] = gone | {"created": held["created"]}
    return gone


def post_balance(
    account: Account,
    held: Object,
    amount: int,
    kind: str,
    *,
    invoice: str | None = None,
    note: str | None = None,
) -> Object:
    """Posts to a customer's balance; negative is credit for it. Returns the transaction."""
    held["balance"] += amount
    held["currency"] = held["currency"] or "usd"
    posted: Object = {
        "id": account.world.new_id("cbtxn"),
        "object": "customer_balance_transaction",
        "amount": amount,
        "checkout_session": None,
        "created": account.world.clock.now,
        "credit_note": None,
        "currency": held["currency"],
        "customer": held["id"],
        "description": note,
        "ending_balance": held["balance"],
        "invoice": invoice,
        "livemode": False,
        "metadata": {},
        "type": kind,
    }
    return account.add("balance_transaction", posted)


@route("POST", "/v1/customers/{customer}/balance_transactions")
def create_balance_transaction(call: Call) -> Object:
    held = need_customer(call.account, call.args["customer"])
    note = call.params.get("description")
    posted = post_balance(call.account, held, call.params["amount"], "adjustment", note=note)
    posted["metadata"] = merge_metadata({}, call.params.get("metadata"))
    return posted


@route("GET", "/v1/customers/{customer}/balance_transactions")
def list_balance_transactions(call: Call) -> Object:
    name = call.args["customer"]
    rows = [
        row
        for row in reversed(call.account.tables["balance_transaction"].values())
        if row["customer"] == name
    ]
    return page(call, rows, f"/v1/customers/{name}/balance_transactions")
