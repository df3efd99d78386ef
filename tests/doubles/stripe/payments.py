"""PaymentIntents, their charges, and SetupIntents."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe.customers import need_customer
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.listing import listed, searched
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.payment_methods import GOOD, declined, resolve
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object


def new_intent(account: Account, amount: int, currency: str, customer: str | None, **given: Any) -> Object:
    """Makes a PaymentIntent that nobody has confirmed yet."""
    name = account.world.new_id("pi")
    made: Object = {
        "id": name,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": given.get("automatic_payment_methods"),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{name}_secret_double",
        "confirmation_method": "automatic",
        "created": account.world.clock.now,
        "currency": currency.lower(),
        "customer": customer,
        "customer_account": None,
        "description": given.get("description") or None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": given.get("payment_method_types") or ["card"],
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": given.get("setup_future_usage") or None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }
    account.add("payment_intent", made)
    emit(account, "payment_intent.created", made)
    return made


def confirm(account: Account, intent: Object, method: Object, *, off_session: bool) -> None:
    """Charges a card. Raises Failure (402) when it does not pay, after telling of it."""
    fate = account.side[method["id"]]["fate"]
    intent["payment_method"] = method["id"]
    if fate == "authentication_required" and not off_session:
        intent["status"] = "requires_action"
        intent["next_action"] = {
            "redirect_to_url": {"return_url": None, "url": "https://hooks.stripe.com/3d_secure/double"},
            "type": "redirect_to_url",
        }
        emit(account, "payment_intent.requires_action", intent)
        return
    charge = _charge(account, intent, method, paid=fate == GOOD)
    intent["latest_charge"] = charge["id"]
    if fate != GOOD:
        intent["status"] = "requires_payment_method"
        intent["payment_method"] = None
        failure = declined(fate, intent)
        seen = {name: value for name, value in failure.error.items() if name != "payment_intent"}
        intent["last_payment_error"] = {**seen, "charge": charge["id"], "payment_method": method}
        emit(account, "charge.failed", charge)
        emit(account, "payment_intent.payment_failed", intent)
        raise declined(fate, dict(intent))
    intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
    if intent["setup_future_usage"] and intent["customer"]:
        method["customer"] = intent["customer"]
    emit(account, "charge.succeeded", charge)
    emit(account, "payment_intent.succeeded", intent)


def _charge(account: Account, intent: Object, method: Object, *, paid: bool) -> Object:
    name = account.world.new_id("ch")
    return account.add(
        "charge",
        {
            "id": name,
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if paid else 0,
            "amount_refunded": 0,
            "captured": paid,
            "created": account.world.clock.now,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "disputed": False,
            "livemode": False,
            "metadata": dict(intent["metadata"]),
            "paid": paid,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "receipt_url": f"https://pay.stripe.com/receipts/{name}",
            "refunded": False,
            "status": "succeeded" if paid else "failed",
        },
    )


def pay_off_session(
    account: Account, customer: str, method: str, amount: int, currency: str, invoice: str
) -> Object:
    """Charges a customer for an invoice. Raises Failure when the card does not pay."""
    intent = new_intent(account, amount, currency, customer, description=f"Invoice {invoice}")
    confirm(account, intent, resolve(account, method), off_session=True)
    return intent


@route("POST", "/v1/payment_intents")
def create(call: Call) -> Object:
    params, account = dict(call.params), call.account
    customer = params.pop("customer", None)
    if customer is not None:
        need_customer(account, customer)
    if params.get("off_session") and not params.get("confirm"):
        raise Failure(400, "off_session needs confirm=true.", param="off_session")
    amount, currency = params.pop("amount"), params.pop("currency")
    if amount < call.world.settings.minimum_charge:
        raise Failure(
            400, "Amount must be at least $0.50 usd", code="amount_too_small", param="amount", keeps=True
        )
    method = resolve(account, params["payment_method"]) if params.get("payment_method") else None
    if method is not None and method["customer"] not in (None, customer):
        said = "The PaymentMethod belongs to another customer."
        raise Failure(400, said, code="payment_method_unexpected_state", param="payment_method", keeps=True)
    intent = new_intent(account, amount, currency, customer, **params)
    if method is not None:
        intent.update(status="requires_confirmation", payment_method=method["id"])
    if params.get("confirm"):
        if method is None:
            said = "You cannot confirm this PaymentIntent because it's missing a payment method."
            raise Failure(400, said, code="parameter_missing", param="payment_method", keeps=True)
        confirm(account, intent, method, off_session=bool(params.get("off_session")))
    return intent


@route("GET", "/v1/payment_intents")
def list_intents(call: Call) -> Object:
    return listed(call, "payment_intent", "/v1/payment_intents")


@route("GET", "/v1/payment_intents/search")
def search(call: Call) -> Object:
    return searched(call, "payment_intent", "/v1/payment_intents/search")


@route("GET", "/v1/payment_intents/{intent}")
def retrieve(call: Call) -> Object:
    return call.found("payment_intent", "intent")


@route("POST", "/v1/payment_intents/{intent}")
def update(call: Call) -> Object:
    held = call.found("payment_intent", "intent")
    change(held, call.params, "description", "setup_future_usage")
    return held


@route("POST", "/v1/payment_intents/{intent}/confirm")
def confirm_intent(call: Call) -> Object:
    held = call.found("payment_intent", "intent")
    name = call.params.get("payment_method") or held["payment_method"]
    if (
        held["status"] not in ("requires_payment_method", "requires_confirmation", "requires_action")
        or not name
    ):
        said = f"This PaymentIntent's status is {held['status']}."
        raise Failure(400, said, code="payment_intent_unexpected_state", keeps=True)
    method = resolve(call.account, name)
    confirm(call.account, held, method, off_session=bool(call.params.get("off_session")))
    return held


@route("POST", "/v1/payment_intents/{intent}/cancel")
def cancel(call: Call) -> Object:
    held = call.found("payment_intent", "intent")
    if held["status"] in ("succeeded", "canceled"):
        said = f"You cannot cancel this PaymentIntent because it has a status of {held['status']}."
        raise Failure(400, said, code="payment_intent_unexpected_state", keeps=True)
    reason = call.params.get("cancellation_reason")
    held.update(status="canceled", canceled_at=call.now, cancellation_reason=reason)
    call.emit("payment_intent.canceled", held)
    return held


@route("GET", "/v1/charges/{charge}")
def retrieve_charge(call: Call) -> Object:
    return call.found("charge", "charge")


def new_setup(account: Account, customer: str | None, **given: Any) -> Object:
    """Makes a SetupIntent that nobody has confirmed yet."""
    name = account.world.new_id("seti")
    made: Object = {
        "id": name,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": None,
        "cancellation_reason": None,
        "client_secret": f"{name}_secret_double",
        "created": account.world.clock.now,
        "customer": customer,
        "customer_account": None,
        "description": given.get("description"),
        "excluded_payment_method_types": None,
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "mandate": None,
        "metadata": merge_metadata({}, given.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": given.get("payment_method"),
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": given.get("usage", "off_session"),
    }
    return account.add("setup_intent", made)


def set_up(account: Account, intent: Object, method: Object) -> None:
    """Keeps a card for its customer, for later payments."""
    method["customer"] = intent["customer"]
    intent.update(status="succeeded", payment_method=method["id"])
    emit(account, "setup_intent.succeeded", intent)


@route("POST", "/v1/setup_intents")
def create_setup(call: Call) -> Object:
    params = dict(call.params)
    customer = params.pop("customer", None)
    if customer is not None:
        need_customer(call.account, customer)
    method = resolve(call.account, params["payment_method"]) if params.get("payment_method") else None
    made = new_setup(call.account, customer, **{**params, "payment_method": method and method["id"]})
    call.emit("setup_intent.created", made)
    if params.get("confirm") and method is not None:
        set_up(call.account, made, method)
    return made


@route("GET", "/v1/setup_intents")
def list_setups(call: Call) -> Object:
    return listed(call, "setup_intent", "/v1/setup_intents")


@route("GET", "/v1/setup_intents/{intent}")
def retrieve_setup(call: Call) -> Object:
    return call.found("setup_intent", "intent")


@route("POST", "/v1/setup_intents/{intent}/confirm")
def confirm_setup(call: Call) -> Object:
    held = call.found("setup_intent", "intent")
    method = resolve(call.account, call.params.get("payment_method") or held["payment_method"] or "")
    set_up(call.account, held, method)
    return held
