"""Subscriptions: start, change, pause, cancel."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.doubles.stripe import invoicing, lines
from tests.doubles.stripe.customers import need_customer
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure, needs
from tests.doubles.stripe.listing import listed, searched
from tests.doubles.stripe.objects import cents, change, merge_metadata
from tests.doubles.stripe.periods import anchor_of, following, step
from tests.doubles.stripe.proration import Change, plan
from tests.doubles.stripe.renewals import ENDED, end_now, items, period, plan_boundary, put_metered
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object

DAY = 86_400
INCOMPLETE_SECONDS = 23 * 3600
ITEMS_MAX = 20


def new_item(account: Account, subscription: str, ask: dict[str, Any], start: int, end: int) -> Object:
    """Makes an item of a subscription. Raises Failure for a price that cannot recur."""
    name = ask.get("price")
    if name is None and ask.get("price_data"):
        from tests.doubles.stripe.catalogue import new_price

        call = Call(account.world, account, {}, {}, "req_inline")
        name = new_price(call, ask["price_data"])["id"]
    if name is None:
        raise needs("items[0][price]")
    price = account.need("price", name, "items[0][price]")
    if price["recurring"] is None:
        raise Failure(400, "The price specified is set to `type=one_time`.", param="items[0][price]")
    if not price["active"]:
        raise Failure(400, "The price specified is inactive.", param="items[0][price]", keeps=True)
    if lines.is_metered(price) and ask.get("quantity") is not None:
        raise Failure(400, "A metered price has no quantity.", param="items[0][quantity]")
    made: Object = {
        "id": account.world.new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": account.world.clock.now,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": merge_metadata({}, ask.get("metadata")),
        "plan": _plan(price),
        "price": price,
        "subscription": subscription,
        "tax_rates": [],
    }
    if not lines.is_metered(price):
        made["quantity"] = ask.get("quantity", 1)
    account.side[made["id"]]["since"] = account.world.clock.now
    return made


def _plan(price: Object) -> Object:
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


def _blank(call: Call, customer: Object) -> Object:
    params, now = call.params, call.now
    trial_end = params.get("trial_end")
    if params.get("trial_period_days"):
        trial_end = now + params["trial_period_days"] * DAY
    trial_end = None if trial_end in ("now", "", None) else trial_end
    config = params.get("billing_cycle_anchor_config")
    anchor = params.get("billing_cycle_anchor") or (anchor_of(config, now) if config else now)
    if config:
        config = {name: config.get(name) for name in ("day_of_month", "hour", "minute", "month", "second")}
    return {
        "id": call.world.new_id("sub"),
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": trial_end or anchor,
        "billing_cycle_anchor_config": config,
        "billing_mode": {"type": (params.get("billing_mode") or {}).get("type", "flexible")},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": params.get("cancel_at") or None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": params.get("collection_method", "charge_automatically"),
        "created": now,
        "currency": "usd",
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": params.get("days_until_due"),
        "default_payment_method": params.get("default_payment_method") or None,
        "default_source": None,
        "default_tax_rates": [],
        "description": params.get("description") or None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": False, "url": "/v1/subscription_items"},
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": merge_metadata({}, params.get("metadata")),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": now,
        "status": "trialing" if trial_end else "active",
        "test_clock": None,
        "transfer_data": None,
        "trial_end": trial_end,
        "trial_settings": params.get("trial_settings")
        or {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": now if trial_end else None,
    }


@route("POST", "/v1/subscriptions")
def create(call: Call) -> Object:
    return start(call)


def start(call: Call) -> Object:
    """Starts a subscription and its first invoice."""
    account, params = call.account, call.params
    customer = need_customer(account, params["customer"])
    if not params.get("items") or len(params["items"]) > ITEMS_MAX:
        raise needs("items")
    if params.get("default_payment_method"):
        account.need("payment_method", params["default_payment_method"], "default_payment_method")
    made = _blank(call, customer)
    now, trial = call.now, made["trial_end"]
    recurring = (
        account.need("price", params["items"][0].get("price"), "items[0][price]")["recurring"]
        if params["items"][0].get("price")
        else {"interval": "month", "interval_count": 1}
    )
    first_end = trial or (following(made["billing_cycle_anchor"], recurring, now) if recurring else now)
    found = [new_item(account, made["id"], ask, now, first_end) for ask in params["items"]]
    rhythms = {(each["plan"]["interval"], each["plan"]["interval_count"]) for each in found}
    if len(rhythms) > 1:
        raise Failure(400, "The double keeps one interval a subscription.", param="items", keeps=True)
    made["items"]["data"] = found
    made["currency"] = customer["currency"] = found[0]["price"]["currency"]
    if trial:
        account.side[made["id"]]["trial_until"] = trial
    if params.get("cancel_at_period_end"):
        made.update(cancel_at_period_end=True, cancel_at=first_end, canceled_at=now)
    account.add("subscription", made)
    call.emit("customer.subscription.created", made)
    _first_invoice(call, made)
    plan_boundary(account, made)
    return made


def _first_invoice(call: Call, made: Object) -> None:
    account, params = call.account, call.params
    customer = account.tables["customer"][made["customer"]]
    invoice = invoicing.blank(account, customer, "subscription_create", (call.now, call.now))
    invoicing.of_subscription(invoice, made)
    found = _first_lines(account, made, params.get("proration_behavior", "create_prorations"))
    found += invoicing.pending_lines(account, made["customer"], made["id"], invoice)
    invoicing.put_lines(account, invoice, found)
    invoicing.keep(account, invoice, finalize_at=None)
    made["latest_invoice"] = invoice["id"]
    behavior = params.get("payment_behavior", "allow_incomplete")
    if behavior == "default_incomplete" and invoice["amount_due"]:
        invoice["auto_advance"] = False
    if made["status"] == "active" and invoice["amount_due"] and made["collection_method"] != "send_invoice":
        made["status"] = "incomplete"
    invoicing.finalize(account, invoice)
    invoice["auto_advance"] = True
    if invoice["status"] == "paid" and made["status"] == "incomplete":
        made["status"] = "active"
    if made["status"] == "incomplete":
        if behavior == "error_if_incomplete":
            raise Failure(402, "Your card was declined.", kind="card_error", code="card_declined", keeps=True)
        name = made["id"]
        call.world.clock.at(call.now + INCOMPLETE_SECONDS, lambda: _expire(account, name))


def _first_lines(account: Account, made: Object, behavior: str) -> list[Object]:
    """What is paid ahead at the start: a period that is cut short by its anchor is paid in part, or not at all."""
    start, end = period(made)
    found: list[Object] = []
    for each in items(made):
        if lines.is_metered(each["price"]):
            continue
        one = lines.licensed(account, made, each, start, end)
        whole = end - step(end, each["price"]["recurring"], -1)
        if made["status"] != "trialing" and end - start < whole:
            share = Decimal(end - start) / Decimal(whole)
            one["amount"] = one["subtotal"] = cents(one["amount"] * share) if behavior != "none" else 0
        found.append(one)
    return found


def _expire(account: Account, name: str) -> None:
    held = account.tables["subscription"][name]
    if held["status"] == "incomplete":
        held.update(status="incomplete_expired", ended_at=account.world.clock.now)
        plan_boundary(account, held)
        emit(account, "customer.subscription.updated", held, {"status": "incomplete"})


@route("GET", "/v1/subscriptions")
def list_subscriptions(call: Call) -> Object:
    status, price = call.params.get("status"), call.params.get("price")

    def fits(row: Object) -> bool:
        if price is not None and price not in {each["price"]["id"] for each in items(row)}:
            return False
        if status in (None, "all"):
            # Ended ones are left out unless they are asked for.
            return status == "all" or row["status"] not in ENDED
        return row["status"] in (ENDED if status == "ended" else (status,))

    return listed(call, "subscription", "/v1/subscriptions", "status", "price", only=fits)


@route("GET", "/v1/subscriptions/search")
def search(call: Call) -> Object:
    return searched(call, "subscription", "/v1/subscriptions/search")


@route("GET", "/v1/subscriptions/{subscription_exposed_id}")
def retrieve(call: Call) -> Object:
    return call.found("subscription", "subscription_exposed_id")


def planned(account: Account, held: Object, params: dict[str, Any]) -> Change | None:
    """Returns what a change of items makes of a subscription; None without one."""
    if not params.get("items"):
        return None
    at = params.get("proration_date") or account.world.clock.now
    first, last = period(held)
    return plan(
        account,
        held,
        params["items"],
        lambda ask: new_item(account, held["id"], ask, first, last),
        behavior=params.get("proration_behavior", "create_prorations"),
        at=at,
    )


@route("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(call: Call) -> Object:
    held = call.found("subscription", "subscription_exposed_id")
    account, params = call.account, call.params
    if held["status"] in ENDED:
        raise Failure(400, "A canceled subscription can only update its cancellation_details.", keeps=True)
    before = change(
        held, params, "default_payment_method", "description", "collection_method", "days_until_due",
        "pause_collection", "trial_settings",
    )  # fmt: skip
    if held["pause_collection"] is not None:
        held["pause_collection"].setdefault("resumes_at", None)
    if "cancel_at_period_end" in params:
        before["cancel_at_period_end"] = held["cancel_at_period_end"]
        leaves = bool(params["cancel_at_period_end"])
        end = period(held)[1] if leaves else None
        reason = "cancellation_requested" if leaves else None
        held.update(cancel_at_period_end=leaves, cancel_at=end, canceled_at=call.now if leaves else None)
        held["cancellation_details"]["reason"] = reason
    if "cancel_at" in params:
        before["cancel_at"] = held["cancel_at"]
        held["cancel_at"] = params["cancel_at"] or None
    wanted = planned(account, held, params)
    if wanted is not None:
        _apply(call, held, wanted, before)
    if params.get("trial_end") is not None:
        _trial(call, held, params["trial_end"], before)
    plan_boundary(account, held)
    if before:
        call.emit("customer.subscription.updated", held, before)
    return held


def _apply(call: Call, held: Object, wanted: Change, before: dict[str, Any]) -> None:
    account = call.account
    before["items"] = {"data": [dict(each) for each in items(held)]}
    for each in wanted.new:
        each["plan"] = _plan(each["price"])
        old = next((one for one in items(held) if one["id"] == each["id"]), None)
        if old is None or old["price"]["id"] != each["price"]["id"]:
            account.side[each["id"]]["since"] = call.now
    held["items"]["data"] = wanted.items
    for each in wanted.pending:
        account.add("invoiceitem", each)
        call.emit("invoiceitem.created", each)
    if call.params.get("proration_behavior") == "always_invoice" and wanted.pending:
        customer = account.tables["customer"][held["customer"]]
        invoice = invoicing.blank(account, customer, "subscription_update", (call.now, call.now))
        invoicing.of_subscription(invoice, held)
        found = invoicing.pending_lines(account, held["customer"], held["id"], invoice)
        invoicing.put_lines(account, invoice, found)
        invoicing.keep(account, invoice, finalize_at=None)
        held["latest_invoice"] = invoice["id"]
        invoicing.finalize(account, invoice)


def _trial(call: Call, held: Object, until: Any, before: dict[str, Any]) -> None:
    before["trial_end"] = held["trial_end"]
    at = call.now if until == "now" else int(until)
    call.account.side[held["id"]]["trial_until"] = at
    held.update(trial_end=at, billing_cycle_anchor=at)
    if held["status"] == "trialing" or at > call.now:
        held["status"] = "trialing"
        for each in items(held):
            each["current_period_end"] = at
    if until == "now":
        plan_boundary(call.account, held)
        call.world.clock.move(call.now)


@route("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(call: Call) -> Object:
    held = call.found("subscription", "subscription_exposed_id")
    account, params = call.account, call.params
    if held["status"] in ENDED:
        raise Failure(404, f"No such subscription: '{held['id']}'", code="resource_missing", param="id")
    if params.get("prorate"):
        gone = [
            {"id": each["id"], "deleted": True} for each in items(held) if not lines.is_metered(each["price"])
        ]
        for each in plan(
            account, held, gone, lambda ask: ask, behavior="create_prorations", at=call.now
        ).pending:
            account.add("invoiceitem", each)
    for name, value in (params.get("cancellation_details") or {}).items():
        held["cancellation_details"][name] = value or None
    held["canceled_at"] = call.now
    end_now(account, held, invoice_now=bool(params.get("invoice_now")), reason="cancellation_requested")
    return held


@route("POST", "/v1/subscriptions/{subscription}/resume")
def resume(call: Call) -> Object:
    held = call.found("subscription", "subscription")
    if held["status"] != "paused":
        raise Failure(400, "Only paused subscriptions can be resumed.", keeps=True)
    held["status"] = "active"
    recurring = items(held)[0]["price"]["recurring"]
    held["billing_cycle_anchor"] = call.now
    for each in items(held):
        each["current_period_start"] = call.now
        each["current_period_end"] = following(call.now, recurring, call.now)
    plan_boundary(call.account, held)
    call.emit("customer.subscription.resumed", held)
    return held


__all__ = ["new_item", "planned", "put_metered", "start"]
