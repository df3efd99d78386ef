"""What the next invoice will be, and what a change would cost, without changing anything."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe import invoicing, lines
from tests.doubles.stripe.customers import need_customer
from tests.doubles.stripe.failures import Failure, needs
from tests.doubles.stripe.renewals import ENDED, items, period, usage_start
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.subscriptions import new_item, planned
from tests.doubles.stripe.world import Account, Object


@route("POST", "/v1/invoices/create_preview")
def preview(call: Call) -> Object:
    account, params = call.account, call.params
    details: dict[str, Any] = params.get("subscription_details") or {}
    held = None
    if params.get("subscription"):
        held = account.need("subscription", params["subscription"], "subscription")
        if held["status"] in ENDED:
            raise Failure(404, "No upcoming invoices", code="invoice_upcoming_none")
    elif params.get("customer") and not details.get("items"):
        live = [each for each in account.having("subscription", customer=params["customer"]) if _live(each)]
        if not live:
            raise Failure(404, "No upcoming invoices for customer", code="invoice_upcoming_none")
        held = live[-1]
    name = held["customer"] if held else params.get("customer")
    if name is None:
        raise needs("customer")
    customer = need_customer(account, name)
    if held is None:
        return _of_new(call, customer, details["items"])
    return _of_held(account, customer, held, details)


def _live(subscription: Object) -> bool:
    return subscription["status"] not in (*ENDED, "incomplete")


def _shown(account: Account, invoice: Object, found: list[Object]) -> Object:
    invoicing.put_lines(account, invoice, found)
    invoice["id"] = account.world.new_id("upcoming_in")
    for each in found:
        each["invoice"] = invoice["id"]
    due = invoice["total"] + invoice["starting_balance"]
    invoice["amount_due"] = invoice["amount_remaining"] = max(0, due)
    invoice["ending_balance"] = min(0, due)
    return invoice


def _of_new(call: Call, customer: Object, asked: list[dict[str, Any]]) -> Object:
    account, now = call.account, call.now
    made = {"id": "sub_upcoming", "customer": customer["id"], "metadata": {}, "status": "active"}
    from tests.doubles.stripe.periods import following

    found: list[Object] = []
    for ask in asked:
        each = new_item(account, "sub_upcoming", ask, now, now)
        if not lines.is_metered(each["price"]):
            end = following(now, each["price"]["recurring"], now)
            found.append(lines.licensed(account, made, each, now, end))
    invoice = invoicing.blank(account, customer, "upcoming", (now, now))
    return _shown(account, invoice, found)


def _of_held(account: Account, customer: Object, held: Object, details: dict[str, Any]) -> Object:
    now = account.world.clock.now
    start, end = period(held)
    change = planned(account, held, details)
    after = change.items if change else items(held)
    pending = change.pending if change else []
    behavior = details.get("proration_behavior", "create_prorations")
    found: list[Object] = []
    waiting = account.having("invoiceitem", customer=customer["id"], invoice=None)
    ends = details.get("cancel_now") or details.get("cancel_at_period_end") or held["cancel_at_period_end"]
    found += [lines.of_pending(account, each) for each in [*waiting, *pending]]
    if change is not None and behavior == "always_invoice":
        # The change is invoiced by itself, at once.
        invoice = invoicing.blank(account, customer, "subscription_update", (now, now))
        invoicing.of_subscription(invoice, held)
        return _shown(account, invoice, found)
    fresh = {id(each) for each in change.new} if change else set()
    for each in after:
        price = account.tables["price"][each["price"]["id"]]
        if lines.is_metered(price):
            replaced = id(each) in fresh
            since = now if replaced else usage_start(account, each)
            found.append(lines.metered(account, held, each, since, end, lag=True))
        elif not ends:
            from tests.doubles.stripe.periods import following

            following_end = following(held["billing_cycle_anchor"], price["recurring"], end)
            found.append(lines.licensed(account, held, each, end, following_end))
    invoice = invoicing.blank(account, customer, "upcoming", (start, end))
    invoicing.of_subscription(invoice, held)
    return _shown(account, invoice, found)
