"""Billing credit grants: prepaid credit that pays for metered lines when an invoice becomes final."""

from __future__ import annotations

from tests.doubles.stripe.customers import need_customer
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.lines import is_metered
from tests.doubles.stripe.listing import listed
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object


@route("POST", "/v1/billing/credit_grants")
def create(call: Call) -> Object:
    params = call.params
    need_customer(call.account, params["customer"])
    monetary = params["amount"].get("monetary")
    if params["amount"]["type"] != "monetary" or monetary is None:
        raise Failure(400, "The double grants monetary credit alone.", param="amount[type]")
    made: Object = {
        "id": call.world.new_id("credgr_test"),
        "object": "billing.credit_grant",
        "amount": {"monetary": monetary, "type": "monetary"},
        "applicability_config": params["applicability_config"],
        "category": params.get("category", "paid"),
        "created": call.now,
        "customer": params["customer"],
        "customer_account": None,
        "effective_at": params.get("effective_at", call.now),
        "expires_at": params.get("expires_at"),
        "livemode": False,
        "metadata": merge_metadata({}, params.get("metadata")),
        "name": params.get("name"),
        "priority": params.get("priority", 50),
        "test_clock": None,
        "updated": call.now,
        "voided_at": None,
    }
    call.account.add("credit_grant", made)
    call.account.side[made["id"]]["left"] = monetary["value"]
    call.emit("billing.credit_grant.created", made)
    return made


@route("GET", "/v1/billing/credit_grants")
def list_grants(call: Call) -> Object:
    return listed(call, "credit_grant", "/v1/billing/credit_grants")


@route("GET", "/v1/billing/credit_grants/{id}")
def retrieve(call: Call) -> Object:
    return call.found("credit_grant")


@route("POST", "/v1/billing/credit_grants/{id}")
def update(call: Call) -> Object:
    held = call.found("credit_grant")
    change(held, call.params, "expires_at")
    held["updated"] = call.now
    call.emit("billing.credit_grant.updated", held)
    return held


@route("POST", "/v1/billing/credit_grants/{id}/expire")
def expire(call: Call) -> Object:
    held = call.found("credit_grant")
    held["expires_at"] = held["updated"] = call.now
    call.emit("billing.credit_grant.updated", held)
    return held


@route("POST", "/v1/billing/credit_grants/{id}/void")
def void(call: Call) -> Object:
    held = call.found("credit_grant")
    if call.account.side[held["id"]]["left"] != held["amount"]["monetary"]["value"]:
        raise Failure(400, "A grant that was used cannot be voided.", keeps=True)
    held["voided_at"] = held["updated"] = call.now
    call.emit("billing.credit_grant.updated", held)
    return held


def _usable(account: Account, customer: str) -> list[Object]:
    now = account.world.clock.now
    found = [
        each
        for each in account.having("credit_grant", customer=customer, voided_at=None)
        if each["effective_at"] <= now
        and (each["expires_at"] is None or each["expires_at"] > now)
        and account.side[each["id"]]["left"] > 0
    ]
    # Stripe's order: priority, then what expires first, promotional before paid, then age.
    return sorted(
        found,
        key=lambda each: (
            each["priority"],
            each["expires_at"] or 2**62,
            each["category"] != "promotional",
            each["effective_at"],
            each["created"],
        ),
    )


@route("GET", "/v1/billing/credit_balance_summary")
def summary(call: Call) -> Object:
    left = sum(
        call.account.side[each["id"]]["left"] for each in _usable(call.account, call.params["customer"])
    )
    amount = {"monetary": {"currency": "usd", "value": left}, "type": "monetary"}
    return {
        "object": "billing.credit_balance_summary",
        "balances": [{"available_balance": amount, "ledger_balance": amount}],
        "customer": call.params["customer"],
        "customer_account": None,
        "livemode": False,
    }


def apply(account: Account, invoice: Object) -> list[Object]:
    """Spends grants on an invoice's metered lines; returns what they paid, by grant."""
    applied: list[Object] = []
    for line in invoice["lines"]["data"]:
        if line["pricing"] is None or line["amount"] <= 0:
            continue
        price = account.tables["price"].get(line["pricing"]["price_details"]["price"])
        if price is None or not is_metered(price):
            continue
        open_amount = line["amount"]
        for grant in _usable(account, invoice["customer"]):
            side = account.side[grant["id"]]
            part = min(open_amount, side["left"])
            if part <= 0:
                break
            side["left"] -= part
            open_amount -= part
            spent = {
                "amount": part,
                "credit_balance_transaction": account.world.new_id("cbtxn_test"),
                "type": "credit_balance_transaction",
            }
            line["pretax_credit_amounts"].append(spent)
            applied.append(spent)
            emit(account, "billing.credit_balance_transaction.created", spent | {"credit_grant": grant["id"]})
    return applied
