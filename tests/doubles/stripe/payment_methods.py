"""Payment methods, among them the cards that Stripe's documentation lists as failing."""

from __future__ import annotations

from tests.doubles.stripe.failures import Failure, no_reference
from tests.doubles.stripe.listing import listed, page
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object

GOOD = "good"
CARDS: dict[str, tuple[str, str, str]] = {
    # token: (brand, last four, what its charges meet)
    "pm_card_visa": ("visa", "4242", GOOD),
    "pm_card_mastercard": ("mastercard", "4444", GOOD),
    "pm_card_amex": ("amex", "8431", GOOD),
    "pm_card_chargeCustomerFail": ("visa", "0341", "card_declined"),
    "pm_card_visa_chargeDeclined": ("visa", "0002", "card_declined"),
    "pm_card_chargeDeclined": ("visa", "0002", "card_declined"),
    "pm_card_chargeDeclinedInsufficientFunds": ("visa", "9995", "insufficient_funds"),
    "pm_card_chargeDeclinedExpiredCard": ("visa", "0069", "expired_card"),
    "pm_card_authenticationRequired": ("visa", "3184", "authentication_required"),
    "pm_card_authenticationRequiredOnSetup": ("visa", "3155", GOOD),
}
KEEPS_AND_FAILS = "pm_card_chargeCustomerFail"
ATTACHES_NOT = {"pm_card_visa_chargeDeclined", "pm_card_chargeDeclined"}


def new_method(account: Account, token: str) -> Object:
    """Makes a card of one of the documented tokens."""
    brand, last4, fate = CARDS[token]
    made: Object = {
        "id": account.world.new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": {"address": None, "email": None, "name": None, "phone": None, "tax_id": None},
        "card": {
            "brand": brand,
            "checks": None,
            "country": "US",
            "display_brand": brand,
            "exp_month": 12,
            "exp_year": 2040,
            "fingerprint": f"fp{last4}",
            "funding": "credit",
            "generated_from": None,
            "last4": last4,
            "networks": None,
            "regulated_status": None,
            "three_d_secure_usage": None,
            "wallet": None,
        },
        "created": account.world.clock.now,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }
    account.side[made["id"]]["fate"] = fate
    return account.add("payment_method", made)


def resolve(account: Account, name: str, param: str = "payment_method") -> Object:
    """Returns a payment method by its id, or a new one by a documented token. Raises Failure."""
    if name in CARDS:
        return new_method(account, name)
    return account.need("payment_method", name, param)


def attach(call: Call, name: str, customer: str) -> Object:
    """Gives a payment method to a customer. Raises Failure for a card that is declined at once."""
    if name in ATTACHES_NOT:
        raise declined("card_declined", None)
    held = resolve(call.account, name)
    if held["customer"] not in (None, customer):
        said = "The payment method you provided has already been attached to a customer."
        raise Failure(400, said, code="payment_method_unexpected_state", keeps=True)
    held["customer"] = customer
    call.emit("payment_method.attached", held)
    return held


def declined(fate: str, intent: Object | None) -> Failure:
    """Returns the error of a card that does not pay, with the intent that failed by it."""
    decline = {"card_declined": "generic_decline"}.get(fate, fate)
    code = fate if fate in ("expired_card", "authentication_required") else "card_declined"
    said = {
        "card_declined": "Your card was declined.",
        "insufficient_funds": "Your card has insufficient funds.",
        "expired_card": "Your card has expired.",
        "authentication_required": "Your card was declined. This transaction requires authentication.",
    }[fate]
    extra = {"decline_code": decline}
    if intent is not None:
        extra["payment_intent"] = intent  # type: ignore[assignment]
    return Failure(402, said, kind="card_error", code=code, keeps=True, extra=extra)


@route("POST", "/v1/payment_methods")
def create(call: Call) -> Object:
    token = (call.params.get("card") or {}).get("token", "tok_visa")
    wanted = {"tok_visa": "pm_card_visa"}.get(token, token.replace("tok_", "pm_card_", 1))
    if wanted not in CARDS:
        raise no_reference("token", token, "card[token]")
    made = new_method(call.account, wanted)
    made["metadata"] = merge_metadata({}, call.params.get("metadata"))
    return made


@route("GET", "/v1/payment_methods")
def list_methods(call: Call) -> Object:
    return listed(call, "payment_method", "/v1/payment_methods")


@route("GET", "/v1/payment_methods/{payment_method}")
def retrieve(call: Call) -> Object:
    return call.found("payment_method", "payment_method")


@route("POST", "/v1/payment_methods/{payment_method}")
def update(call: Call) -> Object:
    held = call.found("payment_method", "payment_method")
    change(held, call.params)
    return held


@route("POST", "/v1/payment_methods/{payment_method}/attach")
def attach_method(call: Call) -> Object:
    from tests.doubles.stripe.customers import need_customer

    need_customer(call.account, call.params["customer"])
    return attach(call, call.args["payment_method"], call.params["customer"])


@route("POST", "/v1/payment_methods/{payment_method}/detach")
def detach(call: Call) -> Object:
    held = call.found("payment_method", "payment_method")
    owner = call.account.get("customer", held["customer"])
    if owner is not None and owner["invoice_settings"]["default_payment_method"] == held["id"]:
        owner["invoice_settings"]["default_payment_method"] = None
    held["customer"] = None
    call.emit("payment_method.detached", held)
    return held


@route("GET", "/v1/customers/{customer}/payment_methods")
def of_customer(call: Call) -> Object:
    name = call.args["customer"]
    rows = [
        row for row in reversed(call.account.tables["payment_method"].values()) if row["customer"] == name
    ]
    return page(call, rows, f"/v1/customers/{name}/payment_methods")
