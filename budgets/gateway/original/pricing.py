"""GET /api/v1/pricing: the price book as the original client reads one, for the estimates that it makes itself.

The client takes the first row of the table whose prefix a model's name starts with, and of the project's own rows the
longest. So the longest come first, and a negotiated price is accompanied by the names that only begin like its own.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from budgets.domain.policy import ANY_MODEL
from budgets.domain.pricing_book import AmbiguousProvider, PriceBook
from budgets.domain.pricing_list import price_list_etag
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import Rates
from budgets.gateway.original.checks import UNKNOWN_NANO_PER_TOKEN
from budgets.gateway.original.native import per_token
from noburn.kit.money import pico_to_usd

KEPT_MAX: Final = 32
MILLION: Final = 10**6
NANO_PER_MILLION_TOKENS: Final = 1_000

Pair = tuple[int, int]
"""Pico-USD for a token in and for one out."""


class PriceTables:
    """Writes the tables, and keeps them while no price changes: they are large."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def table(self, book: PriceBook, prices: TenantPrices | None, now: datetime) -> bytes:
        """The answer, in JSON."""
        etag = hashlib.sha256(price_list_etag(book, now, prices=prices).encode()).digest()
        found = self._kept.get(etag)
        if found is None:
            found = self._kept[etag] = msgspec.json.encode(_table(book, prices, now))
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        return found


def _table(book: PriceBook, prices: TenantPrices | None, now: datetime) -> dict[str, Any]:
    sellers: dict[str, list[str]] = {}
    for provider in book.providers:
        for model in book.models(provider):
            sellers.setdefault(model.entry.model.lower(), []).append(provider)
    # What all of a provider's models cost less stands in the table; a row of its own would be any model's prefix.
    rows = {
        name: pair
        for name, sold_by in sellers.items()
        # Whose make a name is matters where several sell it. To ask it of every name would take seconds.
        if (pair := _pair(book, prices, sold_by[0] if len(sold_by) == 1 else None, name, now)) is not None
    }
    own: dict[str, Pair] = {}
    if prices is not None:
        rules = prices.in_force(now).values()
        for prefix in sorted({rule.model for rule in rules if rule.model != ANY_MODEL}):
            if (pair := _pair(book, prices, None, prefix, now)) is not None:
                own[prefix] = pair
                own |= {name: rows[name] for name in rows if name.startswith(prefix) and name != prefix}
    taken_in, taken_out = UNKNOWN_NANO_PER_TOKEN
    return {
        "currency": "USD",
        "global_table": list(_rows(rows)),
        "project_overrides": list(_rows(own)),
        "unknown_model_floor": {
            "input_per_m": taken_in // NANO_PER_MILLION_TOKENS,
            "output_per_m": taken_out // NANO_PER_MILLION_TOKENS,
        },
    }


def _rows(pairs: dict[str, Pair]) -> Iterator[dict[str, Any]]:
    for name in sorted(pairs, key=lambda name: (-len(name), name)):
        taken_in, taken_out = (msgspec.Raw(pico_to_usd(pico, units=MILLION).encode()) for pico in pairs[name])
        yield {"model_prefix": name, "input_per_m": taken_in, "output_per_m": taken_out}


def _pair(
    book: PriceBook, prices: TenantPrices | None, provider: str | None, name: str, now: datetime
) -> Pair | None:
    """The price of a name as a check would find it; of several sellers the dearest, None without a price."""
    found = _resolve(book, prices, provider, name, now)
    sellers = found.providers if isinstance(found, AmbiguousProvider) else ()
    each = [found, *(_resolve(book, prices, seller, name, now) for seller in sellers)]
    pairs = [per_token(rates) for rates in each if isinstance(rates, Rates)]
    return max(pairs, default=None)


def _resolve(
    book: PriceBook, prices: TenantPrices | None, provider: str | None, name: str, now: datetime
) -> object:
    return book.resolve(provider, name, now) if prices is None else prices.resolve(book, provider, name, now)
