"""Checkout sessions, what a customer does on them, and the billing portal."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe import payments
from tests.doubles.stripe.catalogue import charge, new_price
from tests.doubles.stripe.customers import need_customer, new_customer
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure, needs
from tests.doubles.stripe.listing import listed, page
from tests.doubles.stripe.objects import cents, merge_metadata
from tests.doubles.stripe.payment_methods import GOOD, KEEPS_AND_FAILS, declined, resolve
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.subscriptions import start
from tests.doubles.stripe.world import Account, Object

EXPIRES_SECONDS = 86_400
LINES_MAX = 100


def _lines(call: Call) -> list[Object]:
    found: list[Object] = []
    for at, given in enumerate((call.params.get("line_items") or [])[:LINES_MAX]):
        name = given.get("price")
        if name is None and given.get("price_data"):
            name = new_price(call, given["price_data"])["id"]
        price = call.account.need("price", name, f"line_items[{at}][price]")
        metered = (price["recurring"] or {}).get("usage_type") == "metered"
        quantity = None if metered else given.get("quantity")
        if not metered and quantity is None:
            raise needs(f"line_items[{at}][quantity]")
        total = 0 if metered else cents(charge(call.account, price, quantity or 0))
        found.append(
            {
                "id": call.world.new_id("li"),
                "object": "item",
                "adjustable_quantity": None,
                "amount_discount": 0,
                "amount_subtotal": total,
                "amount_tax": 0,
                "amount_total": total,
                "currency": price["currency"],
                "description": call.account.tables["product"][price["product"]]["name"],
                "metadata": {},
                "price": price,
                "quantity": quantity,
            }
        )
    return found


@route("POST", "/v1/checkout/sessions")
def create(call: Call) -> Object:
    account, params = call.account, call.params
    mode = params.get("mode", "payment")
    customer = params.get("customer")
    if customer is not None:
        need_customer(account, customer)
    found = _lines(call)
    if mode != "setup" and not found:
        raise needs("line_items")
    recurring = [each for each in found if each["price"]["recurring"]]
    if mode == "payment" and recurring:
        said = "You must use mode `subscription` with recurring prices."
        raise Failure(400, said, param="mode")
    if mode == "subscription" and not recurring:
        raise Failure(400, "You must provide at least one recurring price.", param="line_items")
    name = call.world.new_id("cs_test")
    total = sum(each["amount_total"] for each in found)
    made = _session(call, name, mode, customer, total)
    if mode == "setup":
        intent = payments.new_setup(account, customer, **(params.get("setup_intent_data") or {}))
        made["setup_intent"] = intent["id"]
    account.side[name] = {"lines": found, "params": dict(params)}
    account.add("checkout_session", made)
    call.world.clock.at(made["expires_at"], lambda: _expire(account, name))
    return made


def _session(call: Call, name: str, mode: str, customer: str | None, total: int) -> Object:
    params = call.params
    return {
        "id": name,
        "object": "checkout.session",
        "adaptive_pricing": None,
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": None if mode == "setup" else total,
        "amount_total": None if mode == "setup" else total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": call.now,
        "currency": params.get("currency", "usd"),
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": customer,
        "customer_account": None,
        "customer_creation": params.get("customer_creation")
        or ("if_required" if mode == "payment" else "always" if mode == "subscription" else None),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": [],
        "expires_at": params.get("expires_at", call.now + EXPIRES_SECONDS),
        "invoice": None,
        "invoice_creation": None,
        "livemode": False,
        "locale": None,
        "metadata": merge_metadata({}, params.get("metadata")),
        "mode": mode,
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": params.get("payment_method_collection", "always"),
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": params.get("payment_method_types") or ["card"],
        "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "recovered_from": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": params.get("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"https://checkout.stripe.com/c/pay/{name}",
        "wallet_options": None,
    }


def _expire(account: Account, name: str) -> None:
    held = account.tables["checkout_session"][name]
    if held["status"] == "open":
        held.update(status="expired", url=None)
        emit(account, "checkout.session.expired", held)


def complete(account: Account, name: str, card: str) -> Object:
    """What a customer does who pays with a card. Raises Failure when the card does not, or too late."""
    held = account.tables["checkout_session"].get(name)
    if held is None or held["status"] != "open":
        raise Failure(400, f"The session {name} is not open.")
    side = account.side[name]
    params: dict[str, Any] = side["params"]
    call = Call(account.world, account, {}, {}, account.world.new_id("req"))
    if held["customer"] is None and held["customer_creation"] in ("always", "if_required"):
        email = held["customer_email"] or "payer@example.com"
        if held["mode"] == "subscription" or held["customer_creation"] == "always":
            held["customer"] = new_customer(call, {"email": email})["id"]
    match held["mode"]:
        case "setup":
            intent = account.tables["setup_intent"][held["setup_intent"]]
            intent["customer"] = held["customer"]
            payments.set_up(account, intent, resolve(account, card))
        case "payment":
            data = params.get("payment_intent_data") or {}
            intent = payments.new_intent(
                account, held["amount_total"], held["currency"], held["customer"], **data
            )
            held["payment_intent"] = intent["id"]
            payments.confirm(account, intent, resolve(account, card), off_session=True)
            held["payment_status"] = "paid"
        case _:
            _subscribe(account, held, side, params, card)
    details = account.get("customer", held["customer"]) or {}
    held["customer_details"] = {
        "address": None,
        "business_name": None,
        "email": details.get("email") or held["customer_email"] or "payer@example.com",
        "individual_name": None,
        "name": details.get("name"),
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }
    held.update(status="complete", url=None)
    emit(account, "checkout.session.completed", held)
    return held


def _subscribe(
    account: Account, held: Object, side: dict[str, Any], params: dict[str, Any], card: str
) -> None:
    method = resolve(account, card)
    fate, trial = account.side[method["id"]]["fate"], "trial" in str(params.get("subscription_data"))
    # A trial charges nothing yet: the card is only kept, which one of those that fail lets happen.
    if fate != GOOD and not (trial and card == KEEPS_AND_FAILS):
        raise declined(fate, None)
    method["customer"] = held["customer"]
    data = dict(params.get("subscription_data") or {})
    wanted = [
        {"price": each["price"]["id"], **({} if each["quantity"] is None else {"quantity": each["quantity"]})}
        for each in side["lines"]
        if each["price"]["recurring"]
    ]
    ask = {**data, "customer": held["customer"], "items": wanted, "default_payment_method": method["id"]}
    made = start(Call(account.world, account, ask, {}, account.world.new_id("req")))
    held["subscription"] = made["id"]
    held["invoice"] = made["latest_invoice"]
    held["payment_status"] = "paid"


@route("GET", "/v1/checkout/sessions")
def list_sessions(call: Call) -> Object:
    return listed(call, "checkout_session", "/v1/checkout/sessions")


@route("GET", "/v1/checkout/sessions/{session}")
def retrieve(call: Call) -> Object:
    return call.found("checkout_session", "session")


@route("GET", "/v1/checkout/sessions/{session}/line_items")
def line_items(call: Call) -> Object:
    held = call.found("checkout_session", "session")
    return page(
        call, call.account.side[held["id"]]["lines"], f"/v1/checkout/sessions/{held['id']}/line_items"
    )


@route("POST", "/v1/checkout/sessions/{session}/expire")
def expire(call: Call) -> Object:
    held = call.found("checkout_session", "session")
    if held["status"] != "open":
        raise Failure(400, "Only open sessions can be expired.", keeps=True)
    _expire(call.account, held["id"])
    return held


@route("POST", "/v1/billing_portal/sessions")
def portal(call: Call) -> Object:
    if not call.params.get("customer"):
        raise needs("customer")
    need_customer(call.account, call.params["customer"])
    name = call.world.new_id("bps")
    return call.account.add(
        "portal_session",
        {
            "id": name,
            "object": "billing_portal.session",
            "configuration": call.params.get("configuration", "bpc_double"),
            "created": call.now,
            "customer": call.params["customer"],
            "customer_account": None,
            "flow": None,
            "livemode": False,
            "locale": None,
            "on_behalf_of": None,
            "return_url": call.params.get("return_url"),
            "url": f"https://billing.stripe.com/p/session/{name}",
        },
    )
