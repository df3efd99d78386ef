"""The life of an invoice: draft, final, paid; or tried again, given up, void."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe import grants, lines
from tests.doubles.stripe.customers import post_balance
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.world import Account, Object

DAY = 86_400


def blank(account: Account, customer: Object, reason: str, period: tuple[int, int]) -> Object:
    """Returns an invoice without lines, not kept yet."""
    return {
        "id": account.world.new_id("in"),
        "object": "invoice",
        "account_country": "US",
        "account_name": account.id,
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_paid_off_stripe": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": account.world.clock.now,
        "currency": customer["currency"] or "usd",
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": None,
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": {"object": "list", "data": [], "has_more": False, "url": ""},
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "payments": {"object": "list", "data": [], "has_more": False, "url": "/v1/invoice_payments"},
        "period_end": period[1],
        "period_start": period[0],
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": customer["balance"],
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": None,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def of_subscription(invoice: Object, subscription: Object) -> None:
    """Makes an invoice one of a subscription."""
    invoice["parent"] = {
        "quote_details": None,
        "subscription_details": {
            "metadata": dict(subscription["metadata"]),
            "subscription": subscription["id"],
        },
        "type": "subscription_details",
    }
    invoice["collection_method"] = subscription["collection_method"]
    invoice["default_payment_method"] = subscription["default_payment_method"]
    invoice["currency"] = subscription["currency"]


def subscription_of(account: Account, invoice: Object) -> Object | None:
    """Returns the subscription that an invoice is of."""
    details = (invoice["parent"] or {}).get("subscription_details")
    return account.get("subscription", details["subscription"]) if details else None


def put_lines(account: Account, invoice: Object, found: list[Object]) -> None:
    """Sets an invoice's lines and what they come to."""
    for each in found:
        each["invoice"] = invoice["id"]
    url = f"/v1/invoices/{invoice['id']}/lines"
    invoice["lines"] = {"object": "list", "data": found, "has_more": False, "url": url}
    subtotal = sum(each["amount"] for each in found)
    granted = sum(each["amount"] for each in invoice["total_pretax_credit_amounts"])
    total = subtotal - granted
    invoice.update(subtotal=subtotal, subtotal_excluding_tax=subtotal, total=total, total_excluding_tax=total)
    invoice["amount_due"] = max(0, total + invoice["starting_balance"])
    invoice["amount_remaining"] = invoice["amount_due"]


def refresh(account: Account, invoice: Object, *, lag: bool = True) -> None:
    """Counts the metered lines of a draft again: usage of its period may still come in."""
    if invoice["status"] != "draft":
        return
    held = invoice["lines"]["data"]
    for at, (subscription, item, start, end) in account.side[invoice["id"]].get("metered", {}).items():
        fresh = lines.metered(account, subscription, item, start, end, lag=lag)
        held[at] = {**fresh, "id": held[at]["id"]}
    invoice["starting_balance"] = account.tables["customer"][invoice["customer"]].get("balance", 0)
    put_lines(account, invoice, held)


def keep(account: Account, invoice: Object, *, finalize_at: int | None) -> Object:
    """Keeps a draft, tells of it, and plans its finalization."""
    account.add("invoice", invoice)
    emit(account, "invoice.created", invoice)
    if finalize_at is not None:
        invoice["automatically_finalizes_at"] = finalize_at
        name = invoice["id"]
        account.world.clock.at(finalize_at, lambda: finalize_if_draft(account, name))
    return invoice


def finalize_if_draft(account: Account, name: str) -> None:
    """What the clock does to a draft."""
    invoice = account.get("invoice", name)
    if invoice is not None and invoice["status"] == "draft" and invoice["auto_advance"]:
        finalize(account, invoice)


def finalize(account: Account, invoice: Object) -> None:
    """Makes a draft final: it never changes again. Collects it, or carries what is too little to collect."""
    now, customer = account.world.clock.now, account.tables["customer"][invoice["customer"]]
    refresh(account, invoice, lag=False)
    invoice["total_pretax_credit_amounts"] = grants.apply(account, invoice)
    invoice["starting_balance"] = customer["balance"]
    put_lines(account, invoice, invoice["lines"]["data"])
    due = invoice["total"] + invoice["starting_balance"]
    if due < account.world.settings.minimum_charge:
        # Too little to charge, or credit left over: the customer's balance carries it.
        _carry(account, invoice, customer, due)
        due = 0
    elif invoice["starting_balance"]:
        _carry(account, invoice, customer, 0)
    invoice["amount_due"] = invoice["amount_remaining"] = due
    invoice["ending_balance"] = customer["balance"]
    invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    invoice["status"] = "open"
    invoice["effective_at"] = invoice["status_transitions"]["finalized_at"] = now
    invoice["automatically_finalizes_at"] = None
    invoice["hosted_invoice_url"] = f"https://invoice.stripe.com/i/{account.id}/{invoice['id']}"
    invoice["invoice_pdf"] = f"https://pay.stripe.com/invoice/{account.id}/{invoice['id']}/pdf"
    emit(account, "invoice.finalized", invoice)
    if due == 0:
        settle(account, invoice, 0)
    elif invoice["collection_method"] == "send_invoice":
        _send(account, invoice)
    elif invoice["auto_advance"]:
        from tests.doubles.stripe.collecting import collect

        collect(account, invoice)


def _carry(account: Account, invoice: Object, customer: Object, left: int) -> None:
    amount = left - customer["balance"]
    if amount:
        kind = "invoice_too_small" if left > 0 else "applied_to_invoice"
        post_balance(account, customer, amount, kind, invoice=invoice["id"])


def _send(account: Account, invoice: Object) -> None:
    now, name = account.world.clock.now, invoice["id"]
    subscription = subscription_of(account, invoice)
    days = account.side[name].get("days_until_due") or (subscription or {}).get("days_until_due") or 30
    invoice["due_date"] = now + days * DAY
    emit(account, "invoice.sent", invoice)
    account.world.clock.at(invoice["due_date"], lambda: _overdue(account, name))


def _overdue(account: Account, name: str) -> None:
    invoice = account.tables["invoice"][name]
    if invoice["status"] == "open":
        emit(account, "invoice.overdue", invoice)
        from tests.doubles.stripe.collecting import fall_behind

        fall_behind(account, invoice)


def settle(account: Account, invoice: Object, paid: int, intent: Object | None = None) -> None:
    """Marks an invoice paid, by a payment or because nothing is due."""
    now = account.world.clock.now
    invoice["status"] = "paid"
    invoice["attempted"] = True
    invoice["amount_paid"] = paid
    invoice["amount_remaining"] = 0
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"]["paid_at"] = now
    if intent is not None:
        invoice["payments"]["data"].append(_payment(account, invoice, intent, paid))
    emit(account, "invoice.paid", invoice)
    emit(account, "invoice.payment_succeeded", invoice)
    from tests.doubles.stripe.collecting import recover

    recover(account, invoice)


def _payment(account: Account, invoice: Object, intent: Object, paid: int) -> Object:
    return {
        "id": account.world.new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": paid,
        "amount_requested": paid,
        "created": account.world.clock.now,
        "currency": invoice["currency"],
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": account.world.clock.now},
    }


def must_be(invoice: Object, *states: str) -> None:
    """Raises Failure for an invoice in another state."""
    if invoice["status"] not in states:
        said = f"This invoice is {invoice['status']}; it must be {' or '.join(states)}."
        raise Failure(400, said, code="invoice_not_editable", keeps=True)


def pending_lines(account: Account, customer: str, subscription: str | None, invoice: Object) -> list[Object]:
    """Takes the invoice items that wait for a customer, as lines of this invoice."""
    taken: list[Any] = []
    for each in account.having("invoiceitem", customer=customer, invoice=None):
        own = ((each["parent"] or {}).get("subscription_details") or {}).get("subscription")
        if own is None or own == subscription:
            each["invoice"] = invoice["id"]
            taken.append(lines.of_pending(account, each))
    return taken
