"""Collecting what invoices ask: the first try, the next ones, and what becomes of the subscription."""

from __future__ import annotations

from tests.doubles.stripe import invoicing
from tests.doubles.stripe.events import emit
from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.payments import pay_off_session
from tests.doubles.stripe.world import Account, Object

DAY = 86_400


def method_of(account: Account, invoice: Object) -> str | None:
    """Returns the payment method that an invoice is charged to, or None."""
    customer = account.tables["customer"][invoice["customer"]]
    chosen: str | None = (
        invoice["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    )
    return chosen


def collect(account: Account, invoice: Object, method: str | None = None) -> None:
    """Tries once to collect an open invoice; a failure is told and planned to be tried again."""
    subscription = invoicing.subscription_of(account, invoice)
    if subscription is not None and subscription["pause_collection"] is not None:
        return
    invoice["attempted"] = True
    invoice["attempt_count"] += 1
    chosen = method or method_of(account, invoice)
    try:
        if chosen is None:
            raise Failure(402, "There is no payment method.", kind="card_error", code="missing")
        intent = pay_off_session(
            account, invoice["customer"], chosen, invoice["amount_due"], invoice["currency"], invoice["id"]
        )
    except Failure:
        _failed(account, invoice)
        return
    invoicing.settle(account, invoice, invoice["amount_due"], intent)


def _failed(account: Account, invoice: Object) -> None:
    settings, now, name = account.world.settings, account.world.clock.now, invoice["id"]
    tries = invoice["attempt_count"]
    subscription = invoicing.subscription_of(account, invoice)
    first = invoice["billing_reason"] == "subscription_create"
    if not first and invoice["auto_advance"] and tries <= len(settings.retry_after_days):
        at = now + settings.retry_after_days[tries - 1] * DAY
        invoice["next_payment_attempt"] = at
        account.world.clock.at(at, lambda: _again(account, name))
    else:
        invoice["next_payment_attempt"] = None
    emit(account, "invoice.payment_failed", invoice)
    if first or subscription is None:
        return
    fall_behind(account, invoice)
    if invoice["next_payment_attempt"] is None:
        _give_up(account, subscription)


def _again(account: Account, name: str) -> None:
    invoice = account.tables["invoice"][name]
    if invoice["status"] == "open" and invoice["auto_advance"]:
        collect(account, invoice)


def fall_behind(account: Account, invoice: Object) -> None:
    """Marks the subscription of an invoice that was not paid in time, and its customer."""
    account.tables["customer"][invoice["customer"]]["delinquent"] = True
    subscription = invoicing.subscription_of(account, invoice)
    if subscription is not None and subscription["status"] in ("active", "trialing"):
        _status(account, subscription, "past_due")


def _give_up(account: Account, subscription: Object) -> None:
    match account.world.settings.after_retries:
        case "canceled":
            from tests.doubles.stripe.renewals import end_now

            end_now(account, subscription, reason="payment_failed")
        case "unpaid":
            _status(account, subscription, "unpaid")


def _status(account: Account, subscription: Object, status: str) -> None:
    before = {"status": subscription["status"]}
    if before["status"] in (status, "canceled", "incomplete_expired"):
        return
    subscription["status"] = status
    emit(account, "customer.subscription.updated", subscription, before)


def recover(account: Account, invoice: Object) -> None:
    """What a paid invoice does to its subscription and customer."""
    customer = account.tables["customer"][invoice["customer"]]
    subscription = invoicing.subscription_of(account, invoice)
    others = [
        each
        for each in account.having("invoice", customer=invoice["customer"], status="open")
        if each["attempt_count"] > 0
    ]
    if not others and "delinquent" in customer:
        customer["delinquent"] = False
    if subscription is None:
        return
    if (
        subscription["status"] in ("past_due", "unpaid")
        and not any(invoicing.subscription_of(account, each) is subscription for each in others)
    ) or subscription["status"] == "incomplete":
        _status(account, subscription, "active")
