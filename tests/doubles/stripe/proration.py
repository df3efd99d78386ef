"""What a change of a subscription's items in mid-period costs: the rest of the old ones back, of the new ones due."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.doubles.stripe import lines
from tests.doubles.stripe.catalogue import charge
from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.objects import cents
from tests.doubles.stripe.renewals import items, period, usage_start
from tests.doubles.stripe.world import Account, Object


@dataclass
class Change:
    """New items, and the invoice items that the change makes."""

    items: list[Object]
    pending: list[Object] = field(default_factory=list)
    new: list[Object] = field(default_factory=list)


def wanted(
    account: Account, subscription: Object, given: list[dict[str, Any]]
) -> list[tuple[Object | None, dict[str, Any]]]:
    """Returns pairs of an item as it is and what is asked of it; None for a new one. Raises Failure."""
    pairs: list[tuple[Object | None, dict[str, Any]]] = []
    held = {each["id"]: each for each in items(subscription)}
    for at, ask in enumerate(given):
        name = ask.get("id")
        if name is not None and name not in held:
            raise Failure(
                400, f"No such subscription item: '{name}'", code="resource_missing", param=f"items[{at}][id]"
            )
        pairs.append((held.get(name) if name else None, ask))
    return pairs


def plan(
    account: Account,
    subscription: Object,
    given: list[dict[str, Any]],
    make_item: Any,
    *,
    behavior: str,
    at: int,
) -> Change:
    """Returns what a change would make; changes nothing itself."""
    asked = wanted(account, subscription, given)
    touched = {id(old): ask for old, ask in asked if old is not None}
    after: list[Object] = []
    change = Change(after)
    for old in items(subscription):
        ask = touched.get(id(old))
        if ask is None:
            after.append(old)
            continue
        new: Object | None = None
        if not ask.get("deleted"):
            new = dict(old)
            if ask.get("price"):
                new["price"] = account.need("price", ask["price"], "items[0][price]")
            if ask.get("quantity") is not None:
                new["quantity"] = ask["quantity"]
            after.append(new)
            change.new.append(new)
        same = new is not None and _what(new) == _what(old)
        if not same:
            _prorate(account, subscription, change, old, new, behavior, at)
    for held, ask in asked:
        if held is None:
            added: Object = make_item(ask)
            after.append(added)
            change.new.append(added)
            _prorate(account, subscription, change, None, added, behavior, at)
    return change


def _what(item: Object) -> tuple[str, int | None]:
    return item["price"]["id"], item.get("quantity")


def _prorate(
    account: Account,
    subscription: Object,
    change: Change,
    old: Object | None,
    new: Object | None,
    behavior: str,
    at: int,
) -> None:
    start, end = period(subscription)
    trial = subscription["status"] == "trialing"
    if old is not None and lines.is_metered(account.tables["price"][old["price"]["id"]]):
        # What was used up to the change is charged at the old price; the new one counts from here.
        if new is None or new["price"]["id"] != old["price"]["id"]:
            since = usage_start(account, old)
            was = lines.metered(account, subscription, old, since, at, lag=False)
            if was["amount"] and not trial:
                change.pending.append(
                    _item(account, subscription, old, was["amount"], (since, at), was["quantity"])
                )
        old = None
    if behavior == "none" or trial or end <= start:
        return
    share = Decimal(end - at) / Decimal(end - start)
    for item, sign, said in ((old, -1, "Unused time on"), (new, 1, "Remaining time on")):
        if item is None:
            continue
        price = account.tables["price"][item["price"]["id"]]
        if lines.is_metered(price):
            continue
        quantity = item.get("quantity", 1)
        amount = sign * cents(charge(account, price, quantity) * share)
        if amount:
            name = account.tables["product"][price["product"]]["name"]
            text = f"{said} {quantity} x {name}"
            change.pending.append(_item(account, subscription, item, amount, (at, end), quantity, text))


def _item(
    account: Account,
    subscription: Object,
    item: Object,
    amount: int,
    covered: tuple[int, int],
    quantity: int | None,
    text: str | None = None,
) -> Object:
    price = account.tables["price"][item["price"]["id"]]
    return lines.invoice_item(
        account,
        subscription["customer"],
        amount,
        price["currency"],
        price=price,
        subscription=subscription["id"],
        item=item["id"],
        period=covered,
        quantity=quantity,
        proration=True,
        description=text
        or f"Usage up to the change of {account.tables['product'][price['product']]['name']}",
        metadata=subscription["metadata"],
    )
