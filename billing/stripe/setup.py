"""Makes meter, product and price in an account; each is found again by a name of its own, so a repeat makes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from billing.domain.sink import SinkMissing, SinkRefused
from billing.stripe.client import StripeAccess, client_for, plain, translated

UNIT_AMOUNT_CENTS: Final = "0.0001"
"""What one micro-USD costs, in cents. A plain decimal: an exponent is refused."""

PAGE: Final = 100
PAGES_MAX: Final = 20
PREFIXES: Final = ("rk_live_", "rk_test_")


def is_live(access: StripeAccess) -> bool:
    """Whether a key is one of live mode; its prefix says so."""
    return "_live_" in access.api_key[:8]


def request_key(purpose: str, params: Mapping[str, Any]) -> str:
    """An idempotency key for what is made once: the same content has the same key, other content another."""
    text = json.dumps([purpose, params], sort_keys=True, default=str)
    return f"nb:{purpose}:{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def ensure_meter(access: StripeAccess, *, event_name: str, name: str) -> str:
    """Returns the id of the active meter of this event name, made if there is none. Raises SinkError."""
    found = _meter(access, event_name)
    if found is not None:
        return found
    params = {
        "display_name": name,
        "event_name": event_name,
        "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "value_settings": {"event_payload_key": "value"},
    }
    try:
        with translated():
            made = client_for(access).v1.billing.meters.create(
                cast(Any, params), {"idempotency_key": request_key("meter", params)}
            )
    except SinkRefused:
        # Somebody else made it a moment ago, perhaps another of our own workers.
        again = _meter(access, event_name)
        if again is None:
            raise
        return again
    return made.id


def _meter(access: StripeAccess, event_name: str) -> str | None:
    after: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        with translated():
            page = client_for(access).v1.billing.meters.list(
                cast(Any, {"status": "active", "limit": PAGE, **after})
            )
        for meter in page.data:
            if meter.event_name == event_name:
                return meter.id
        if not page.has_more or not page.data:
            return None
        after = {"starting_after": page.data[-1].id}
    raise SinkRefused(f"the account has more than {PAGE * PAGES_MAX} active meters; archive some")


def ensure_product(access: StripeAccess, *, product_id: str, name: str) -> str:
    """Returns the id of the product, made under an id that we choose. Raises SinkError."""
    client = client_for(access)
    try:
        with translated():
            return client.v1.products.retrieve(product_id).id
    except SinkMissing:
        params = {"id": product_id, "name": name, "metadata": {"made_by": "noburn"}}
    try:
        with translated():
            return client.v1.products.create(
                cast(Any, params), {"idempotency_key": request_key("product", params)}
            ).id
    except SinkRefused:
        with translated():
            return client.v1.products.retrieve(product_id).id


def ensure_price(access: StripeAccess, *, lookup_key: str, product_id: str, meter_id: str) -> str:
    """Returns the id of the metered price of one micro-USD, found again by its lookup key. Raises SinkError.

    A price under this key that counts another meter is left behind and its key taken: prices are never altered.
    """
    client = client_for(access)
    with translated():
        held = client.v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1})
    if held.data and (plain(held.data[0]).get("recurring") or {}).get("meter") == meter_id:
        return held.data[0].id
    params = {
        "currency": "usd",
        "product": product_id,
        "unit_amount_decimal": UNIT_AMOUNT_CENTS,
        "billing_scheme": "per_unit",
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        "lookup_key": lookup_key,
        "transfer_lookup_key": True,
        "nickname": "noburn usage, in micro-USD",
    }
    with translated():
        made = client.v1.prices.create(cast(Any, params), {"idempotency_key": request_key("price", params)})
    return made.id
