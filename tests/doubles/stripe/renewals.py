"""What the clock does to a subscription: a trial ends, a period ends, it is cancelled at its end."""

from __future__ import annotations

from typing import Any

from tests.doubles.stripe import invoicing, lines
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.periods import following
from tests.doubles.stripe.world import Account, Object

ENDED = ("canceled", "incomplete_expired")


def items(subscription: Object) -> list[Object]:
    """A subscription's items."""
    found: list[Object] = subscription["items"]["data"]
    return found


def period(subscription: Object) -> tuple[int, int]:
    """The period that a subscription is in; since 2025-03-31 its items carry it."""
    first = items(subscription)[0]
    return first["current_period_start"], first["current_period_end"]


def plan_boundary(account: Account, subscription: Object) -> None:
    """Plans what happens when the present period ends."""
    old = account.jobs.pop(subscription["id"], None)
    if old is not None:
        old.skip = True
    if subscription["status"] in ENDED:
        return
    at = period(subscription)[1]
    if subscription["cancel_at"] is not None:
        at = min(at, subscription["cancel_at"])
    name = subscription["id"]
    account.jobs[name] = account.world.clock.at(at, lambda: _boundary(account, name))


def usage_start(account: Account, item: Object) -> int:
    """From when on an item counts what is used: its period, or since it is there."""
    began: int = account.side[item["id"]].get("since", 0)
    return max(int(item["current_period_start"]), began)


def _boundary(account: Account, name: str) -> None:
    subscription = account.tables["subscription"][name]
    account.jobs.pop(name, None)
    if subscription["status"] in ENDED:
        return
    now = account.world.clock.now
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= now:
        end_now(account, subscription, invoice_now=True, reason="cancellation_requested")
        return
    if subscription["status"] == "incomplete":
        return
    start, end = period(subscription)
    before: dict[str, Any] = {"items": {"data": [dict(each) for each in items(subscription)]}}
    was_trial = subscription["status"] == "trialing"
    if was_trial:
        before["status"] = "trialing"
        subscription["status"] = "active"
        if _has_no_method(account, subscription):
            settings = subscription["trial_settings"] or {}
            chosen = (settings.get("end_behavior") or {}).get("missing_payment_method", "create_invoice")
            if chosen == "cancel":
                end_now(account, subscription, reason="cancellation_requested")
                return
            if chosen == "pause":
                subscription["status"] = "paused"
                emit(account, "customer.subscription.paused", subscription)
                return
    invoice = renewal(account, subscription, start, end)
    for each in items(subscription):
        recurring = account.tables["price"][each["price"]["id"]]["recurring"]
        each["current_period_start"] = end
        each["current_period_end"] = following(subscription["billing_cycle_anchor"], recurring, end)
    for each in items(subscription):
        if not lines.is_metered(account.tables["price"][each["price"]["id"]]):
            one = lines.licensed(account, subscription, each, *period(subscription))
            invoice["lines"]["data"].append(one)
    invoice["lines"]["data"] += invoicing.pending_lines(account, subscription["customer"], name, invoice)
    invoicing.put_lines(account, invoice, invoice["lines"]["data"])
    wait = account.world.settings.finalize_after_seconds
    invoicing.keep(account, invoice, finalize_at=now + wait)
    subscription["latest_invoice"] = invoice["id"]
    emit(account, "customer.subscription.updated", subscription, before)
    plan_boundary(account, subscription)


def _has_no_method(account: Account, subscription: Object) -> bool:
    customer = account.tables["customer"][subscription["customer"]]
    return not (
        subscription["collection_method"] == "send_invoice"
        or subscription["default_payment_method"]
        or customer["invoice_settings"]["default_payment_method"]
    )


def renewal(account: Account, subscription: Object, start: int, end: int) -> Object:
    """Returns a draft with what was used in a period; its figures follow what still comes in."""
    customer = account.tables["customer"][subscription["customer"]]
    invoice = invoicing.blank(account, customer, "subscription_cycle", (start, end))
    invoicing.of_subscription(invoice, subscription)
    put_metered(account, invoice, subscription, end)
    return invoice


def put_metered(account: Account, invoice: Object, subscription: Object, end: int) -> None:
    """Puts on a draft what each metered item has counted up to a time."""
    found: list[Object] = []
    following_usage: dict[int, tuple[Object, Object, int, int]] = {}
    for each in items(subscription):
        if lines.is_metered(account.tables["price"][each["price"]["id"]]):
            start = usage_start(account, each)
            following_usage[len(found)] = (subscription, dict(each), start, end)
            found.append(lines.metered(account, subscription, each, start, end, lag=True))
    account.side[invoice["id"]]["metered"] = following_usage
    invoicing.put_lines(account, invoice, found)


def end_now(
    account: Account, subscription: Object, *, invoice_now: bool = False, reason: str | None = None
) -> None:
    """Ends a subscription; what was used since its last invoice is billed only with `invoice_now`."""
    now = account.world.clock.now
    if subscription["status"] in ENDED:
        return
    subscription.update(status="canceled", ended_at=now)
    subscription["canceled_at"] = subscription["canceled_at"] or now
    if reason is not None:
        subscription["cancellation_details"]["reason"] = reason
    if invoice_now:
        customer = account.tables["customer"][subscription["customer"]]
        start, _ = period(subscription)
        invoice = invoicing.blank(account, customer, "subscription_update", (start, now))
        invoicing.of_subscription(invoice, subscription)
        put_metered(account, invoice, subscription, now)
        found = invoice["lines"]["data"]
        found += invoicing.pending_lines(account, customer["id"], subscription["id"], invoice)
        invoicing.put_lines(account, invoice, found)
        if found:
            wait = account.world.settings.finalize_after_seconds
            invoicing.keep(account, invoice, finalize_at=now + wait)
            subscription["latest_invoice"] = invoice["id"]
    plan_boundary(account, subscription)
    emit(account, "customer.subscription.deleted", subscription)
