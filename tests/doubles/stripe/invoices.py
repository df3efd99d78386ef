"""Invoices and invoice items over the API."""

from __future__ import annotations

from tests.doubles.stripe import invoicing, lines
from tests.doubles.stripe.collecting import collect
from tests.doubles.stripe.customers import need_customer
from tests.doubles.stripe.failures import Failure, missing, needs
from tests.doubles.stripe.listing import listed, page, searched
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Object


@route("POST", "/v1/invoices")
def create(call: Call) -> Object:
    """A draft of the caller's own; it becomes final by `finalize`, or by itself with auto_advance."""
    account, params = call.account, call.params
    if not params.get("customer"):
        raise needs("customer")
    customer = need_customer(account, params["customer"])
    invoice = invoicing.blank(account, customer, "manual", (call.now, call.now))
    invoice["auto_advance"] = bool(params.get("auto_advance", False))
    invoice["collection_method"] = params.get("collection_method", "charge_automatically")
    invoice["metadata"] = merge_metadata({}, params.get("metadata"))
    invoice["description"] = params.get("description") or None
    invoice["currency"] = params.get("currency", invoice["currency"])
    account.side[invoice["id"]]["days_until_due"] = params.get("days_until_due")
    subscription = None
    if params.get("subscription"):
        subscription = account.need("subscription", params["subscription"], "subscription")
        invoicing.of_subscription(invoice, subscription)
    found: list[Object] = []
    if params.get("pending_invoice_items_behavior", "exclude") == "include":
        name = subscription["id"] if subscription else None
        found = invoicing.pending_lines(account, customer["id"], name, invoice)
    invoicing.put_lines(account, invoice, found)
    at = call.now + call.world.settings.finalize_after_seconds if invoice["auto_advance"] else None
    return invoicing.keep(account, invoice, finalize_at=at)


@route("GET", "/v1/invoices")
def list_invoices(call: Call) -> Object:
    wanted = call.params.get("subscription")

    def fits(row: Object) -> bool:
        invoicing.refresh(call.account, row)
        return wanted is None or (invoicing.subscription_of(call.account, row) or {}).get("id") == wanted

    return listed(call, "invoice", "/v1/invoices", "subscription", only=fits)


@route("GET", "/v1/invoices/search")
def search(call: Call) -> Object:
    return searched(call, "invoice", "/v1/invoices/search")


def _found(call: Call) -> Object:
    held = call.found("invoice", "invoice")
    invoicing.refresh(call.account, held)
    return held


@route("GET", "/v1/invoices/{invoice}")
def retrieve(call: Call) -> Object:
    return _found(call)


@route("GET", "/v1/invoices/{invoice}/lines")
def list_lines(call: Call) -> Object:
    held = _found(call)
    return page(call, held["lines"]["data"], held["lines"]["url"])


@route("POST", "/v1/invoices/{invoice}")
def update(call: Call) -> Object:
    held = _found(call)
    if held["status"] != "draft" and set(call.params) - {
        "metadata",
        "auto_advance",
        "default_payment_method",
    }:
        invoicing.must_be(held, "draft")
    before = change(held, call.params, "auto_advance", "description", "default_payment_method", "due_date")
    if before:
        call.emit("invoice.updated", held, before)
    return held


@route("DELETE", "/v1/invoices/{invoice}")
def delete(call: Call) -> Object:
    held = _found(call)
    if held["status"] != "draft" or held["parent"] is not None:
        raise Failure(400, "You can only delete draft invoices that are not of a subscription.", keeps=True)
    del call.account.tables["invoice"][held["id"]]
    for each in call.account.having("invoiceitem", invoice=held["id"]):
        each["invoice"] = None
    call.emit("invoice.deleted", held)
    return {"id": held["id"], "object": "invoice", "deleted": True}


@route("POST", "/v1/invoices/{invoice}/finalize")
def finalize(call: Call) -> Object:
    held = _found(call)
    invoicing.must_be(held, "draft")
    if "auto_advance" in call.params:
        held["auto_advance"] = call.params["auto_advance"]
    invoicing.finalize(call.account, held)
    return held


@route("POST", "/v1/invoices/{invoice}/send")
def send(call: Call) -> Object:
    held = _found(call)
    if held["status"] == "draft":
        invoicing.finalize(call.account, held)
    elif held["status"] == "open":
        call.emit("invoice.sent", held)
    return held


@route("POST", "/v1/invoices/{invoice}/pay")
def pay(call: Call) -> Object:
    held = _found(call)
    if held["status"] == "paid":
        raise Failure(400, "Invoice is already paid", code="invoice_already_paid", keeps=True)
    if held["status"] == "draft":
        held["auto_advance"] = False
        invoicing.finalize(call.account, held)
    if held["status"] == "paid":
        return held
    invoicing.must_be(held, "open", "uncollectible")
    if call.params.get("paid_out_of_band"):
        held["amount_paid_off_stripe"] = held["amount_due"]
        invoicing.settle(call.account, held, held["amount_due"])
        return held
    collect(call.account, held, call.params.get("payment_method"))
    if held["status"] != "paid":
        raise Failure(402, "Your card was declined.", kind="card_error", code="card_declined", keeps=True)
    return held


@route("POST", "/v1/invoices/{invoice}/void")
def void(call: Call) -> Object:
    held = _found(call)
    invoicing.must_be(held, "open", "uncollectible")
    held["status"] = "void"
    held["amount_remaining"] = 0
    held["next_payment_attempt"] = None
    held["status_transitions"]["voided_at"] = call.now
    call.emit("invoice.voided", held)
    return held


@route("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(call: Call) -> Object:
    held = _found(call)
    invoicing.must_be(held, "open")
    held["status"] = "uncollectible"
    held["next_payment_attempt"] = None
    held["status_transitions"]["marked_uncollectible_at"] = call.now
    call.emit("invoice.marked_uncollectible", held)
    return held


@route("POST", "/v1/invoiceitems")
def create_item(call: Call) -> Object:
    account, params = call.account, call.params
    if not params.get("customer"):
        raise needs("customer")
    customer = need_customer(account, params["customer"])
    price, quantity = None, params.get("quantity", 1)
    named = (params.get("pricing") or {}).get("price")
    if named:
        from tests.doubles.stripe.catalogue import charge
        from tests.doubles.stripe.objects import cents

        price = account.need("price", named, "pricing[price]")
        amount = cents(charge(account, price, quantity))
    elif params.get("amount") is not None:
        amount = params["amount"]
    else:
        raise needs("amount")
    target = params.get("invoice")
    if target:
        invoicing.must_be(account.need("invoice", target, "invoice"), "draft")
    given = params.get("period")
    made = lines.invoice_item(
        account,
        customer["id"],
        amount,
        str(params.get("currency") or customer["currency"] or "usd"),
        price=price,
        description=params.get("description"),
        metadata=params.get("metadata"),
        subscription=params.get("subscription"),
        invoice=target,
        quantity=quantity,
        period=(given["start"], given["end"]) if given else None,
    )
    account.add("invoiceitem", made)
    if target:
        invoice = account.tables["invoice"][target]
        invoicing.put_lines(account, invoice, [*invoice["lines"]["data"], lines.of_pending(account, made)])
    call.emit("invoiceitem.created", made)
    return made


@route("GET", "/v1/invoiceitems")
def list_items(call: Call) -> Object:
    pending = call.params.get("pending")

    def fits(row: Object) -> bool:
        return pending is None or (row["invoice"] is None) == pending

    return listed(call, "invoiceitem", "/v1/invoiceitems", "pending", only=fits)


@route("GET", "/v1/invoiceitems/{invoiceitem}")
def retrieve_item(call: Call) -> Object:
    return call.found("invoiceitem", "invoiceitem")


@route("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete_item(call: Call) -> Object:
    held = call.found("invoiceitem", "invoiceitem")
    if held["invoice"] is not None:
        target = call.account.get("invoice", held["invoice"])
        if target is None:
            raise missing("invoice", held["invoice"])
        invoicing.must_be(target, "draft")
        kept = [
            each
            for each in target["lines"]["data"]
            if ((each["parent"] or {}).get("invoice_item_details") or {}).get("invoice_item") != held["id"]
        ]
        invoicing.put_lines(call.account, target, kept)
    del call.account.tables["invoiceitem"][held["id"]]
    return {"id": held["id"], "object": "invoiceitem", "deleted": True}
