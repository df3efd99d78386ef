"""The price book as `GET /v1/prices` shows it: decimal strings, tokens by the million."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from budgets.domain.pricing_book import DAY_MINUTES, Model, Period, PriceBook
from budgets.domain.pricing_rates import TOKEN_UNITS, Rates
from noburn.kit.money import pico_to_usd

MILLION = 10**6


def price_list(book: PriceBook, *, provider: str | None = None, now: datetime) -> list[dict[str, Any]]:
    """Returns the prices in force on this day, one item for each model, variant and time of day.

    A price is `{"usd_per_million_tokens": "0.15", "tiers": [{"above_input_tokens": 200000, …}]}` for tokens
    and `{"usd_per_unit": "0.01"}` for anything else. An unknown provider gives an empty list. It goes with
    `PriceBook.etag(now, provider=provider)`; it is large without a provider, so keep it by that ETag.
    """
    names = book.providers if provider is None else (provider,)
    return [
        _item(model, period, rates)
        for name in names
        for model in book.models(name)
        for period in model.periods
        if period.effective_from <= now and (period.effective_to is None or now < period.effective_to)
        for rates in (period.rates, *period.rates.variants.values())
    ]


def _item(model: Model, period: Period, rates: Rates) -> dict[str, Any]:
    all_day = period.daily_to - period.daily_from == DAY_MINUTES
    return {
        "provider": rates.provider,
        "model": rates.model,
        "variant": rates.variant or "standard",
        "price_id": str(rates.price_id),
        "currency": "USD",
        "effective_from": period.effective_from.isoformat(),
        "effective_to": period.effective_to and period.effective_to.isoformat(),
        "daily": None if all_day else {"from": _clock(period.daily_from), "to": _clock(period.daily_to)},
        "deprecated": model.entry.deprecated,
        "context_window": model.entry.context_window,
        "prices": {unit: _price(unit, pairs) for unit, pairs in sorted(rates.units.items())},
    }


def _price(unit: str, pairs: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    (_, base), *tiers = pairs
    if unit not in TOKEN_UNITS:
        return {"usd_per_unit": pico_to_usd(base)}
    price: dict[str, Any] = {"usd_per_million_tokens": pico_to_usd(base, units=MILLION)}
    if tiers:
        price["tiers"] = [
            {"above_input_tokens": start, "usd_per_million_tokens": pico_to_usd(pico, units=MILLION)}
            for start, pico in tiers
        ]
    return price


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
