"""Products and prices: what things cost, by piece or by meter, flat or in tiers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from tests.doubles.stripe.failures import Failure, needs
from tests.doubles.stripe.listing import listed, searched
from tests.doubles.stripe.objects import cents, change, merge_metadata, plain
from tests.doubles.stripe.routing import Call, route
from tests.doubles.stripe.world import Account, Object

DECIMAL_PLACES_MAX = 12


@route("POST", "/v1/products")
def create_product(call: Call) -> Object:
    return new_product(call, call.params)


def new_product(call: Call, params: dict[str, Any]) -> Object:
    """Makes a product; its id may be chosen by the caller, once."""
    name = params.get("id") or call.world.new_id("prod")
    if call.account.get("product", name) is not None:
        raise Failure(400, f"Product already exists: {name}", code="resource_already_exists", param="id")
    made: Object = {
        "id": name,
        "object": "product",
        "active": params.get("active", True),
        "created": call.now,
        "default_price": None,
        "description": params.get("description") or None,
        "images": params.get("images") or [],
        "livemode": False,
        "marketing_features": [],
        "metadata": merge_metadata({}, params.get("metadata")),
        "name": params["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": params.get("tax_code"),
        "type": "service",
        "unit_label": params.get("unit_label"),
        "updated": call.now,
        "url": params.get("url"),
    }
    call.account.add("product", made)
    call.emit("product.created", made)
    return made


@route("GET", "/v1/products")
def list_products(call: Call) -> Object:
    ids = call.params.get("ids")
    return listed(call, "product", "/v1/products", "ids", only=lambda row: ids is None or row["id"] in ids)


@route("GET", "/v1/products/search")
def search_products(call: Call) -> Object:
    return searched(call, "product", "/v1/products/search")


@route("GET", "/v1/products/{id}")
def retrieve_product(call: Call) -> Object:
    return call.found("product")


@route("POST", "/v1/products/{id}")
def update_product(call: Call) -> Object:
    held = call.found("product")
    before = change(held, call.params, "active", "description", "name", "unit_label", "default_price", "url")
    if before:
        held["updated"] = call.now
        call.emit("product.updated", held, before)
    return held


def _amount(given: dict[str, Any], where: str) -> Decimal | None:
    text, whole = given.get("unit_amount_decimal"), given.get("unit_amount")
    if text is not None and whole is not None:
        raise Failure(400, "You may only specify one of these parameters: unit_amount, unit_amount_decimal.")
    if text is None:
        return None if whole is None else Decimal(whole)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    exponent = amount.as_tuple().exponent
    # A Decimal's own text may be 1E-7, which Stripe does not read.
    if "e" in text.lower() or amount < 0 or not isinstance(exponent, int) or -exponent > DECIMAL_PLACES_MAX:
        raise Failure(400, f"Invalid decimal: {text}", code="parameter_invalid", param=where)
    return amount


def _tier(given: dict[str, Any], at: int) -> Object:
    amount = _amount(given, f"tiers[{at}][unit_amount_decimal]")
    flat = given.get("flat_amount_decimal", given.get("flat_amount"))
    up_to = given.get("up_to")
    return {
        "flat_amount": None if flat is None else cents(Decimal(flat)),
        "flat_amount_decimal": None if flat is None else plain(Decimal(flat)),
        "unit_amount": int(amount) if amount is not None and amount == int(amount) else None,
        "unit_amount_decimal": None if amount is None else plain(amount),
        "up_to": None if up_to == "inf" else int(str(up_to)),
    }


@route("POST", "/v1/prices")
def create_price(call: Call) -> Object:
    return new_price(call, call.params)


def new_price(call: Call, params: dict[str, Any]) -> Object:
    """Makes a price, and its product where that is given inline."""
    account = call.account
    product = params.get("product")
    if params.get("product_data"):
        product = new_product(call, params["product_data"])["id"]
    if not product:
        raise needs("product")
    account.need("product", product, "product")
    scheme = params.get("billing_scheme", "per_unit")
    amount = _amount(params, "unit_amount_decimal")
    tiers = None
    if scheme == "tiered":
        tiers = [_tier(each, at) for at, each in enumerate(params.get("tiers") or [])]
        if not tiers or tiers[-1]["up_to"] is not None or not params.get("tiers_mode"):
            raise Failure(400, "Tiers end with up_to=inf and need tiers_mode.", param="tiers")
    elif amount is None:
        raise needs("unit_amount")
    made: Object = {
        "id": call.world.new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": scheme,
        "created": call.now,
        "currency": params["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": None,
        "metadata": merge_metadata({}, params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": product,
        "recurring": _recurring(account, params.get("recurring")),
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": params.get("tiers_mode"),
        "transform_quantity": params.get("transform_quantity"),
        "type": "recurring" if params.get("recurring") else "one_time",
        "unit_amount": int(amount) if amount is not None and amount == int(amount) else None,
        "unit_amount_decimal": None if amount is None else plain(amount),
    }
    _name(account, made, params)
    account.side[made["id"]]["tiers"] = tiers
    account.add("price", made)
    call.emit("price.created", made)
    return made


def _recurring(account: Account, given: dict[str, Any] | None) -> Object | None:
    if not given:
        return None
    meter, usage = given.get("meter"), given.get("usage_type", "licensed")
    if meter is not None:
        found = account.need("meter", meter, "recurring[meter]")
        if usage != "metered":
            raise Failure(400, "A price with a meter has usage_type metered.", param="recurring[usage_type]")
        if found["status"] != "active":
            raise Failure(400, f"Meter {meter} is not active.", param="recurring[meter]")
    elif usage == "metered":
        # Since 2025-03-31 there is no metered price without a meter.
        raise Failure(400, "Metered prices must be backed by meters.", param="recurring[meter]")
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": usage,
    }


def _name(account: Account, price: Object, params: dict[str, Any]) -> None:
    key = params.get("lookup_key")
    if not key:
        return
    for other in account.tables["price"].values():
        if other["lookup_key"] == key and other is not price:
            if not params.get("transfer_lookup_key"):
                raise Failure(
                    400,
                    f"A price (`{other['id']}`) already uses that lookup key.",
                    code="resource_already_exists",
                    param="lookup_key",
                )
            other["lookup_key"] = None
    price["lookup_key"] = key


@route("GET", "/v1/prices")
def list_prices(call: Call) -> Object:
    keys, recurring = call.params.get("lookup_keys"), call.params.get("recurring") or {}

    def fits(row: Object) -> bool:
        held = row["recurring"] or {}
        named = keys is None or row["lookup_key"] in keys
        return named and all(held.get(name) == value for name, value in recurring.items())

    return listed(call, "price", "/v1/prices", "lookup_keys", "recurring", only=fits)


@route("GET", "/v1/prices/search")
def search_prices(call: Call) -> Object:
    return searched(call, "price", "/v1/prices/search")


@route("GET", "/v1/prices/{price}")
def retrieve_price(call: Call) -> Object:
    held = call.found("price", "price")
    if "tiers" in call.params.get("expand", []):
        return {**held, "tiers": call.account.side[held["id"]]["tiers"]}
    return held


@route("POST", "/v1/prices/{price}")
def update_price(call: Call) -> Object:
    held = call.found("price", "price")
    before = change(held, call.params, "active", "nickname", "tax_behavior")
    _name(call.account, held, call.params)
    if before:
        call.emit("price.updated", held, before)
    return held


def charge(account: Account, price: Object, quantity: int) -> Decimal:
    """Returns what a quantity costs, in cents and their fractions, unrounded."""
    transform = price["transform_quantity"]
    if transform:
        by, up = transform["divide_by"], transform["round"] == "up"
        quantity = -(-quantity // by) if up else quantity // by
    tiers = account.side[price["id"]]["tiers"]
    if tiers is None:
        return Decimal(price["unit_amount_decimal"]) * quantity
    total, done = Decimal(0), 0
    for tier in tiers:
        top = quantity if tier["up_to"] is None else min(quantity, tier["up_to"])
        if price["tiers_mode"] == "volume":
            if tier["up_to"] is None or quantity <= tier["up_to"]:
                return _of_tier(tier, quantity)
        elif top > done or (quantity == 0 and done == 0 and tier is tiers[0]):
            total += _of_tier(tier, top - done)
            done = top
    return total


def _of_tier(tier: Object, quantity: int) -> Decimal:
    return Decimal(tier["unit_amount_decimal"] or 0) * quantity + Decimal(tier["flat_amount_decimal"] or 0)
