"""Money that goes back: refunds, and credit notes on final invoices."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe import invoicing
from tests.doubles.stripe.customers import post_balance
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure, needs
from tests.doubles.stripe.listing import listed, page
from tests.doubles.stripe.objects import change, merge_metadata
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object


def new_refund(account: Account, intent: Object, amount: int | None, **given: Any) -> Object:
    """Gives back a payment or a part of it. Raises Failure for more than is left of it."""
    charge = account.need("charge", intent["latest_charge"], "payment_intent")
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if left == 0:
        raise Failure(
            400, "The charge has already been refunded.", code="charge_already_refunded", keeps=True
        )
    if not 0 < amount <= left:
        said = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise Failure(400, said, param="amount", keeps=True)
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    made: Object = {
        "id": account.world.new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": account.world.clock.now,
        "currency": intent["currency"],
        "metadata": merge_metadata({}, given.get("metadata")),
        "payment_intent": intent["id"],
        "reason": given.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    account.add("refund", made)
    emit(account, "refund.created", made)
    emit(account, "charge.refunded", charge)
    return made


@route("POST", "/v1/refunds")
def create_refund(call: Call) -> Object:
    params = dict(call.params)
    name = params.pop("payment_intent", None)
    if name is None and params.get("charge"):
        name = call.account.need("charge", params.pop("charge"), "charge")["payment_intent"]
    if name is None:
        raise needs("payment_intent")
    intent = call.account.need("payment_intent", name, "payment_intent")
    if intent["status"] != "succeeded":
        raise Failure(400, "This PaymentIntent does not have a successful charge to refund.", keeps=True)
    return new_refund(call.account, intent, params.pop("amount", None), **params)


@route("GET", "/v1/refunds")
def list_refunds(call: Call) -> Object:
    return listed(call, "refund", "/v1/refunds")


@route("GET", "/v1/refunds/{refund}")
def retrieve_refund(call: Call) -> Object:
    return call.found("refund", "refund")


def _amount(call: Call, invoice: Object) -> tuple[int, list[Object]]:
    params = call.params
    rows: list[Object] = []
    for at, given in enumerate(params.get("lines") or []):
        amount = given.get("amount")
        if given["type"] == "invoice_line_item":
            known = {each["id"]: each for each in invoice["lines"]["data"]}
            held = known.get(given.get("invoice_line_item"))
            if held is None:
                raise Failure(400, "No such line.", param=f"lines[{at}][invoice_line_item]", keeps=True)
            amount = held["amount"] if amount is None else amount
        elif amount is None:
            amount = (given.get("unit_amount") or 0) * given.get("quantity", 1)
        rows.append(_line(call, given, amount))
    total = params.get("amount")
    if total is None:
        total = sum(each["amount"] for each in rows) if rows else invoice["total"]
    if not rows:
        rows = [_line(call, {"type": "custom_line_item", "description": "Credit"}, total)]
    return total, rows


def _line(call: Call, given: dict[str, Any], amount: int) -> Object:
    made: Object = {
        "id": call.world.new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": given.get("description"),
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata")),
        "pretax_credit_amounts": [],
        "quantity": given.get("quantity", 1),
        "tax_rates": [],
        "taxes": [],
        "type": given["type"],
        "unit_amount": None,
        "unit_amount_decimal": None,
    }
    if given.get("invoice_line_item"):
        made["invoice_line_item"] = given["invoice_line_item"]
    return made


@route("POST", "/v1/credit_notes")
def create_credit_note(call: Call) -> Object:
    account, params = call.account, call.params
    invoice = account.need("invoice", params["invoice"], "invoice")
    invoicing.must_be(invoice, "open", "paid", "uncollectible")
    total, rows = _amount(call, invoice)
    done = sum(
        each["amount"] for each in account.having("credit_note", invoice=invoice["id"], status="issued")
    )
    if not 0 < total <= invoice["total"] - done:
        said = f"The sum of credit notes ({done + total}) is more than the invoice ({invoice['total']})."
        raise Failure(400, said, param="amount", keeps=True)
    customer = account.tables["customer"][invoice["customer"]]
    before_payment = invoice["status"] != "paid"
    refund, credit = params.get("refund_amount", 0), params.get("credit_amount", 0)
    outside = params.get("out_of_band_amount", 0)
    if not before_payment and refund + credit + outside != total:
        said = "The sum of credit_amount, refund_amount and out_of_band_amount must equal the credit note's."
        raise Failure(400, said, keeps=True)
    made = _note(call, invoice, total, rows, before_payment, outside)
    account.add("credit_note", made)
    if before_payment:
        invoice["pre_payment_credit_notes_amount"] += total
        invoice["amount_due"] = max(0, invoice["amount_due"] - total)
        invoice["amount_remaining"] = invoice["amount_due"]
        if invoice["amount_due"] == 0 and invoice["status"] == "open":
            invoicing.settle(account, invoice, 0)
    else:
        invoice["post_payment_credit_notes_amount"] += total
        if credit:
            posted = post_balance(account, customer, -credit, "credit_note", invoice=invoice["id"])
            posted["credit_note"] = made["id"]
            made["customer_balance_transaction"] = posted["id"]
        if refund:
            paid = invoice["payments"]["data"]
            if not paid:
                raise Failure(400, "The invoice has no payment to refund.", param="refund_amount", keeps=True)
            intent = account.tables["payment_intent"][paid[-1]["payment"]["payment_intent"]]
            given = new_refund(account, intent, refund)
            made["refunds"] = [
                {
                    "amount_refunded": refund,
                    "payment_record_refund": None,
                    "refund": given["id"],
                    "type": "refund",
                }
            ]
    call.emit("credit_note.created", made)
    return made


def _note(
    call: Call, invoice: Object, total: int, rows: list[Object], before_payment: bool, outside: int
) -> Object:
    name = call.world.new_id("cn")
    number = len(call.account.having("credit_note", invoice=invoice["id"])) + 1
    return {
        "id": name,
        "object": "credit_note",
        "amount": total,
        "amount_shipping": 0,
        "created": call.now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": call.now,
        "invoice": invoice["id"],
        "lines": {"object": "list", "data": rows, "has_more": False, "url": f"/v1/credit_notes/{name}/lines"},
        "livemode": False,
        "memo": call.params.get("memo"),
        "metadata": merge_metadata({}, call.params.get("metadata")),
        "number": f"{invoice['number']}-CN-{number:02d}",
        "out_of_band_amount": outside or None,
        "pdf": f"https://pay.stripe.com/credit_notes/{call.account.id}/{name}/pdf",
        "post_payment_amount": 0 if before_payment else total,
        "pre_payment_amount": total if before_payment else 0,
        "pretax_credit_amounts": [],
        "reason": call.params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_excluding_tax": total,
        "total_taxes": [],
        "type": "pre_payment" if before_payment else "post_payment",
        "voided_at": None,
    }


@route("GET", "/v1/credit_notes")
def list_credit_notes(call: Call) -> Object:
    return listed(call, "credit_note", "/v1/credit_notes")


@route("GET", "/v1/credit_notes/{id}")
def retrieve_credit_note(call: Call) -> Object:
    return call.found("credit_note")


@route("POST", "/v1/credit_notes/{id}")
def update_credit_note(call: Call) -> Object:
    held = call.found("credit_note")
    change(held, call.params, "memo")
    return held


@route("GET", "/v1/credit_notes/{credit_note}/lines")
def list_credit_note_lines(call: Call) -> Object:
    held = call.found("credit_note", "credit_note")
    return page(call, held["lines"]["data"], held["lines"]["url"])


@route("POST", "/v1/credit_notes/{id}/void")
def void_credit_note(call: Call) -> Object:
    held = call.found("credit_note")
    invoice = call.account.tables["invoice"][held["invoice"]]
    if held["type"] != "pre_payment" or invoice["status"] != "open":
        raise Failure(400, "Only a credit note of an open invoice can be voided.", keeps=True)
    held.update(status="void", voided_at=call.now)
    invoice["pre_payment_credit_notes_amount"] -= held["amount"]
    invoice["amount_due"] += held["amount"]
    invoice["amount_remaining"] = invoice["amount_due"]
    call.emit("credit_note.voided", held)
    return held
