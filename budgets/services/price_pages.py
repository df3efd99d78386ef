"""The price book at a tenant's own prices, as people look through it: model by model, found by a part of a name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from budgets.domain.policy import ANY_MODEL
from budgets.domain.pricing_book import Model, PriceBook
from budgets.domain.pricing_list import MILLION, price_list
from budgets.domain.pricing_overrides import TenantPrices
from budgets.domain.pricing_rates import Rates
from budgets.queries.bounded import TookTooLong
from budgets.queries.unknown_models import RefusedModel, refused_models, used_models
from budgets.services.policy import price_rules
from budgets.services.price_shelf import shelf
from noburn.kit.money import pico_to_usd
from noburn.kit.problems import Missing

SHOWN_UNITS: Final = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
}
"""What a line of the list shows, by the million of tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PricedModel:
    """A model and its standard price now. `prices` are USD for a million tokens; `override` names a negotiated price."""

    provider: str
    model: str
    prices: dict[str, str | None]
    tiers: bool
    variants: tuple[str, ...]
    override: str
    context_window: int | None
    deprecated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPrices:
    """Everything that one model costs: items as `GET /v1/prices` shows them, and those that are to come."""

    provider: str
    model: str
    now: list[dict[str, Any]]
    coming: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownModels:
    """Models that the price book does not know: refused ones, and those that calls were settled for all the same.

    `slow` says that they could not be looked for in time.
    """

    refused: list[RefusedModel]
    used: list[dict[str, Any]]
    slow: bool


class ModelNotFound(Missing):
    """The price book has no such model."""


def providers() -> list[str]:
    """The providers of the book, by name."""
    with shelf.lock:
        return sorted(shelf.book().providers)


def priced_models(*, tenant_id: UUID, provider: str, search: str, now: datetime) -> list[PricedModel]:
    """Returns the models whose name, or provider's name, holds a text, at the tenant's prices; by provider and name."""
    prices = TenantPrices(price_rules(tenant_id=tenant_id, since=now))
    words = search.lower().split()
    with shelf.lock:
        book = shelf.book()
        return [
            _priced(model, prices, now)
            for name in sorted(book.providers)
            if provider in ("", name)
            for model in sorted(book.models(name), key=lambda each: each.entry.model)
            if all(word in f"{name}/{model.entry.model}".lower() for word in words)
        ]


def _priced(model: Model, prices: TenantPrices, now: datetime) -> PricedModel:
    rates, name = model.rates(now), model.entry.model.lower()
    rule = prices.rule(model.provider, (name, ANY_MODEL), now)
    if rule is not None:
        rates = prices.lay(rule, rates, name) or rates
    return PricedModel(
        provider=model.provider,
        model=model.entry.model,
        prices={shown: _million(rates, unit) for shown, unit in SHOWN_UNITS.items()},
        tiers=rates is not None and len(rates.starts) > 1,
        variants=tuple(sorted(rates.variants)) if rates is not None else (),
        override=rates.override if rates is not None else "",
        context_window=model.entry.context_window,
        deprecated=model.entry.deprecated,
    )


def _million(rates: Rates | None, unit: str) -> str | None:
    if rates is None or unit not in rates.units:
        return None
    return pico_to_usd(rates.units[unit][0][1], units=MILLION)


def model_prices(*, tenant_id: UUID, provider: str, model: str, now: datetime) -> ModelPrices:
    """Returns all prices of one model, by its very name. Raises ModelNotFound."""
    prices = TenantPrices(price_rules(tenant_id=tenant_id, since=now))
    with shelf.lock:
        book = shelf.book()
        found = next((each for each in book.models(provider) if each.entry.model == model), None)
        if found is None:
            raise ModelNotFound(f"{provider}/{model}"[:300])
        items = price_list(book, provider=provider, now=now, prices=prices)
        starts = sorted({p.effective_from for p in found.periods if p.effective_from > now})
        return ModelPrices(
            provider=provider,
            model=model,
            now=[item for item in items if item["model"] == model],
            coming=[item for at in starts for item in _at(book, provider, model, at)],
        )


def _at(book: PriceBook, provider: str, model: str, at: datetime) -> list[dict[str, Any]]:
    return [item for item in price_list(book, provider=provider, now=at) if item["model"] == model]


def unknown_models(*, tenant_id: UUID, since: datetime, now: datetime) -> UnknownModels:
    """Returns what calls asked for since a time that neither the book nor a negotiated price knows."""
    try:
        refused = refused_models(tenant_id=tenant_id, since=since)
        used = used_models(tenant_id=tenant_id, since=since)
    except TookTooLong:
        return UnknownModels(refused=[], used=[], slow=True)
    prices = TenantPrices(price_rules(tenant_id=tenant_id, since=now))
    with shelf.lock:
        book = shelf.book()
        unknown = [
            row
            for row in used
            if not isinstance(prices.resolve(book, row["provider"] or None, row["model"], now), Rates)
        ]
    return UnknownModels(refused=refused, used=unknown, slow=False)
