"""The price book as `GET /v1/prices` shows it: decimal strings, tokens by the million."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from budgets.domain.policy import ANY_MODEL, PriceOverrideRule
from budgets.domain.pricing_book import DAY_MINUTES, Model, ModelEntry, Period, PriceBook
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import TOKEN_UNITS, Rates
from noburn.kit.money import pico_to_usd

MILLION = 10**6


def price_list(
    book: PriceBook, *, provider: str | None = None, now: datetime, prices: TenantPrices | None = None
) -> list[dict[str, Any]]:
    """Returns the prices in force on this day, one item for each model, variant and time of day.

    A price is `{"usd_per_million_tokens": "0.15", "tiers": [{"above_input_tokens": 200000, …}]}` for tokens
    and `{"usd_per_unit": "0.01"}` for anything else. An unknown provider gives an empty list. It goes with
    `price_list_etag`; it is large without a provider, so keep it by that ETag. With a tenant's `prices` it shows
    what the tenant pays: `override` names the negotiated price, and names of its own that have one follow.
    """
    names = book.providers if provider is None else (provider,)
    items = [
        item
        for name in names
        for model in book.models(name)
        for period in _periods(model, now)
        for item in _items(model, period, prices, now)
    ]
    if prices is not None:
        items += [
            item
            for rule in prices.in_force(now).values()
            if provider in (None, rule.provider) and rule.model != ANY_MODEL
            for item in _own_items(book, prices, rule, now)
        ]
    return items


def model_prices(
    book: PriceBook, provider: str, model: str, *, now: datetime, prices: TenantPrices | None
) -> list[dict[str, Any]]:
    """Returns what `price_list` has of one model, under the name that was asked for: an alias is listed as such."""
    found = book.find(provider, model)
    name = model.lower()
    listed = found.entry.model.lower() if isinstance(found, Model) else name
    # Made of this model alone: a provider's whole list takes tens of milliseconds, and a gateway has one thread.
    items = [
        item
        for each in book.models(provider)
        if each.entry.model.lower() == listed
        for period in _periods(each, now)
        for item in _items(each, period, prices, now)
    ]
    if prices is not None:
        items += [
            item
            for rule in prices.in_force(now).values()
            if rule.provider == provider and rule.model.lower() in (name, listed) and rule.model != ANY_MODEL
            for item in _own_items(book, prices, rule, now)
        ]
    own = [item for item in items if item["model"].lower() == name]
    return [{**item, "model": model} for item in own or items]


def price_list_etag(
    book: PriceBook, now: datetime, *, provider: str | None = None, prices: TenantPrices | None = None
) -> str:
    """Returns an ETag for a price list: it changes with the book, each dated price, and the tenant's own prices."""
    etag = book.etag(now, provider=provider)
    in_force = ",".join(prices.in_force(now)) if prices is not None else ""
    if not in_force:
        return etag
    return '"' + hashlib.sha256(f"{etag}|{in_force}".encode()).hexdigest()[:32] + '"'


def _periods(model: Model, now: datetime) -> list[Period]:
    return [
        period
        for period in model.periods
        if period.effective_from <= now and (period.effective_to is None or now < period.effective_to)
    ]


def _items(model: Model, period: Period, prices: TenantPrices | None, now: datetime) -> list[dict[str, Any]]:
    name, rates = model.entry.model.lower(), period.rates
    rule = prices.rule(model.provider, (name, ANY_MODEL), now) if prices is not None else None
    if prices is not None and rule is not None:
        rates = prices.lay(rule, rates, name) or rates
        period = _during(period, rule)
    return [_item(model.entry, period, each) for each in (rates, *rates.variants.values())]


def _own_items(
    book: PriceBook, prices: TenantPrices, rule: PriceOverrideRule, now: datetime
) -> list[dict[str, Any]]:
    """The prices of a name that is none of the book's models: another name of one, or a model of the tenant's own."""
    found = book.find(rule.provider, rule.model)
    if (
        isinstance(found, Model)
        and found.entry.model.lower() == rule.model
        and found.provider == rule.provider
    ):
        return []  # Listed with the book's models.
    entry, bases = ModelEntry(rule.model, None, False, None, ()), list[Period]()
    if isinstance(found, Model):
        entry, bases = msgspec.structs.replace(found.entry, model=rule.model), _periods(found, now)
    items = []
    for base in (*bases,) or (None,):
        rates = prices.lay(rule, base.rates if base is not None else None, rule.model)
        if rates is None:
            continue
        whole = Period(rule.effective_from, rule.effective_to, 0, DAY_MINUTES, rates)
        period = _during(base, rule) if base is not None else whole
        items += [
            _item(entry, period, msgspec.structs.replace(each, provider=rule.provider, model=rule.model))
            for each in (rates, *rates.variants.values())
        ]
    return items


def _during(period: Period, rule: PriceOverrideRule) -> Period:
    """The part of a period in which a negotiated price holds."""
    ends = [end for end in (period.effective_to, rule.effective_to) if end is not None]
    return replace(
        period,
        effective_from=max(period.effective_from, rule.effective_from),
        effective_to=min(ends, default=None),
    )


def _item(entry: ModelEntry, period: Period, rates: Rates) -> dict[str, Any]:
    all_day = period.daily_to - period.daily_from == DAY_MINUTES
    return {
        "provider": rates.provider,
        "model": rates.model,
        "variant": rates.variant or "standard",
        "price_id": str(rates.price_id),
        "override": rates.override or None,
        "currency": "USD",
        "effective_from": period.effective_from.isoformat(),
        "effective_to": period.effective_to and period.effective_to.isoformat(),
        "daily": None if all_day else {"from": _clock(period.daily_from), "to": _clock(period.daily_to)},
        "deprecated": entry.deprecated,
        "context_window": entry.context_window,
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
