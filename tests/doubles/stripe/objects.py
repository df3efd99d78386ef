"""Small manners of Stripe's objects: metadata, texts that unset, money of fractions of a cent."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from tests.doubles.stripe.failures import Failure
from tests.doubles.stripe.world import Object

METADATA_MAX = 50


def merge_metadata(held: dict[str, str], given: Any) -> dict[str, str]:
    """Returns metadata after a change: names merge, an empty value removes one, "" removes all."""
    if given is None:
        return dict(held)
    if given == "":
        return {}
    merged = {**held, **{str(name): str(value) for name, value in given.items()}}
    merged = {name: value for name, value in merged.items() if value != ""}
    if len(merged) > METADATA_MAX:
        raise Failure(400, "You can only specify up to 50 metadata keys.", param="metadata")
    for name, value in merged.items():
        if len(name) > 40 or len(value) > 500:
            raise Failure(400, f"Metadata {name} is too long.", param=f"metadata[{name}]")
    return merged


def change(held: Object, params: dict[str, Any], *names: str) -> dict[str, Any]:
    """Sets the named fields that a request carries; "" unsets one. Returns their former values."""
    before: dict[str, Any] = {}
    for name in names:
        if name in params:
            value = params[name] if params[name] != "" else None
            if held.get(name) != value:
                before[name] = held.get(name)
                held[name] = value
    if "metadata" in params:
        merged = merge_metadata(held["metadata"], params["metadata"])
        if merged != held["metadata"]:
            before["metadata"] = held["metadata"]
            held["metadata"] = merged
    return before


def cents(value: Decimal) -> int:
    """Returns whole cents, halves away from zero, as Stripe rounds a line."""
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def plain(value: Decimal) -> str:
    """Returns a decimal as Stripe writes it, never with an exponent."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
