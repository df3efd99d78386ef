"""The price book in memory: which rates a model has at a moment, and which models are cheaper.

Built once from what `nb_price_book()` returns and then only read. Names are resolved once and kept; the
compiled rates of a model are made on first use, so a book of thousands of models loads in milliseconds.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import msgspec

from budgets.domain.pricing import Rates, compile_rates
from budgets.domain.pricing_match import Matcher, compile_pattern, with_dashed_date

MAX_NAME: Final = 200
"""The longest provider or model name that is looked up."""

CACHE_SIZE: Final = 8192
"""How many resolved names are kept; an attacker's names push out each other's, not the process's memory."""

DAY_MINUTES: Final = 1440

_FAMILY = re.compile(r"[a-z]+")

Pattern = dict[str, Any]
"""A pattern in the form of `pricing_match`."""


class PriceEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One dated price: `pico` USD per `unit` from `tier_start` input tokens on.

    In force while `effective_from <= at < effective_to` (None: open) and, on each day in UTC, from minute
    `daily_from` up to minute `daily_to` (0 and 1440: all day).
    """

    price_id: int
    variant: str
    unit: str
    tier_start: int
    pico: int
    effective_from: datetime
    effective_to: datetime | None
    daily_from: int
    daily_to: int


class ModelEntry(msgspec.Struct, frozen=True, array_like=True):
    """One model of a provider, with the pattern that recognises its other names, and its prices.

    Only what is `offered` is known to be sold by that provider under that very name.
    """

    model: str
    pattern: Pattern | None
    deprecated: bool
    context_window: int | None
    prices: tuple[PriceEntry, ...]
    offered: bool = True


class ProviderEntry(msgspec.Struct, frozen=True, array_like=True):
    """One provider: how its own name and its models' names are recognised, and whose models it resells.

    `models` are in the order in which their patterns are tried.
    """

    provider: str
    provider_pattern: Pattern | None
    model_pattern: Pattern | None
    fallback_providers: tuple[str, ...]
    models: tuple[ModelEntry, ...]


@dataclass(frozen=True)
class UnknownModel:
    """No price: `reason` is `provider` (unknown), `model` (unknown) or `unpriced` (no price at that time)."""

    provider: str | None
    model: str
    reason: str


@dataclass(frozen=True)
class AmbiguousProvider:
    """Several providers sell a model of that name and none of them makes it: the caller must say which."""

    model: str
    providers: tuple[str, ...]


@dataclass(frozen=True)
class Period:
    """Rates and when they hold; see PriceEntry for the fields."""

    effective_from: datetime
    effective_to: datetime | None
    daily_from: int
    daily_to: int
    rates: Rates


class Model:
    """A model of the book; its periods are compiled on first use."""

    __slots__ = ("_periods", "entry", "matches", "provider")

    def __init__(self, provider: str, entry: ModelEntry) -> None:
        self.provider = provider
        self.entry = entry
        self.matches: Matcher | None = _matcher(entry.pattern)
        self._periods: tuple[Period, ...] | None = None

    @property
    def periods(self) -> tuple[Period, ...]:
        """The model's rates in order of time; they do not overlap."""
        if self._periods is None:
            self._periods = tuple(_periods(self.provider, self.entry))
        return self._periods

    def rates(self, at: datetime) -> Rates | None:
        """Returns the rates in force at an aware time, or None when there are none."""
        for period in reversed(self.periods):
            if at < period.effective_from:
                continue
            if period.effective_to is not None and at >= period.effective_to:
                return None
            if period.daily_to - period.daily_from == DAY_MINUTES:
                return period.rates
            utc = at.astimezone(UTC)
            if period.daily_from <= utc.hour * 60 + utc.minute < period.daily_to:
                return period.rates
        return None


def _periods(provider: str, entry: ModelEntry) -> Iterator[Period]:
    """Cuts time at every start and end of a price and compiles the rates between two cuts."""
    cuts = sorted(
        {p.effective_from for p in entry.prices} | {p.effective_to for p in entry.prices if p.effective_to}
    )
    for index, start in enumerate(cuts):
        end = cuts[index + 1] if index + 1 < len(cuts) else None
        active = [
            p
            for p in entry.prices
            if p.effective_from <= start and (p.effective_to is None or start < p.effective_to)
        ]
        if not active:
            continue
        minutes = sorted({0, DAY_MINUTES} | {p.daily_from for p in active} | {p.daily_to for p in active})
        for first, last in pairwise(minutes):
            now = [p for p in active if p.daily_from <= first < p.daily_to]
            by_variant: dict[str, dict[str, list[tuple[int, int]]]] = {}
            for price in now:
                pairs = by_variant.setdefault(price.variant, {}).setdefault(price.unit, [])
                pairs.append((price.tier_start, price.pico))
            if "" not in by_variant:
                continue
            try:
                rates = compile_rates(
                    provider=provider,
                    model=entry.model,
                    units=by_variant.pop(""),
                    variants=by_variant,
                    price_id=max(p.price_id for p in now),
                )
            except ValueError:
                # A unit of a newer release, or a tier without a base: better no price than half of one.
                continue
            yield Period(start, end, first, last, rates)


class _Provider:
    __slots__ = ("by_name", "entry", "matches_model", "matches_name", "models")

    def __init__(self, entry: ProviderEntry) -> None:
        self.entry = entry
        self.models = [Model(entry.provider, model) for model in entry.models]
        self.by_name = {model.entry.model.lower(): model for model in reversed(self.models)}
        self.matches_name = _matcher(entry.provider_pattern)
        self.matches_model = _matcher(entry.model_pattern)

    def exact(self, name: str) -> Model | None:
        return self.by_name.get(name)

    def find(self, name: str) -> Model | None:
        exact = self.by_name.get(name)
        if exact is not None:
            return exact
        return next((m for m in self.models if m.matches is not None and m.matches(name)), None)


def _matcher(pattern: Pattern | None) -> Matcher | None:
    return compile_pattern(pattern) if pattern else None


class PriceBook:
    """All prices, compiled. `version` rises with every change in PostgreSQL; build a new book then."""

    def __init__(self, version: int, providers: Iterable[ProviderEntry]) -> None:
        self.version = version
        self._providers = {entry.provider: _Provider(entry) for entry in providers}
        self._found: OrderedDict[tuple[str | None, str], Model | UnknownModel | AmbiguousProvider] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        return sum(len(provider.models) for provider in self._providers.values())

    @property
    def providers(self) -> tuple[str, ...]:
        """The ids of the providers."""
        return tuple(self._providers)

    def models(self, provider: str) -> tuple[Model, ...]:
        """Returns a provider's models in the book's order; empty for an unknown provider."""
        found = self._providers.get(provider)
        return tuple(found.models) if found else ()

    def provider_named(self, name: str) -> str:
        """Returns the id of the provider that a caller's name for it means; an unknown name in lower case."""
        found = self._provider(name.lower().strip())
        return found.entry.provider if found is not None else name.lower().strip()

    def resolve(
        self, provider: str | None, model: str, at: datetime
    ) -> Rates | UnknownModel | AmbiguousProvider:
        """Returns the rates of a model at an aware time.

        With a provider: its exact model names first, then its patterns in order, then the models of those it
        resells. Without one: the first provider that claims the name as its own make (gpt-* is openai's,
        claude-* anthropic's, gemini-* google's) and has it; else the only provider that lists the exact name;
        else the only one with a pattern for it. Compact dates (-20251211) are tried dashed as well.
        """
        found = self.find(provider, model)
        if isinstance(found, Model):
            return found.rates(at) or UnknownModel(found.provider, model, "unpriced")
        return found

    def find(self, provider: str | None, model: str) -> Model | UnknownModel | AmbiguousProvider:
        """Returns the model that a name stands for, by the rule of `resolve`, priced or not."""
        key = (provider, model)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(provider, model)
            if len(self._found) > CACHE_SIZE:
                self._found.popitem(last=False)
        else:
            self._found.move_to_end(key)
        return found

    def _find(self, provider: str | None, model: str) -> Model | UnknownModel | AmbiguousProvider:
        if not 0 < len(model) <= MAX_NAME or (provider is not None and not 0 < len(provider) <= MAX_NAME):
            return UnknownModel(provider and provider[:MAX_NAME], model[:MAX_NAME], "model")
        name = model.lower()
        names = list(dict.fromkeys((name, with_dashed_date(name))))
        if provider is None:
            return self._infer(names, model)
        seller = self._provider(provider.lower().strip())
        if seller is None:
            return UnknownModel(provider, model, "provider")
        sellers = [
            seller,
            *(self._providers[f] for f in seller.entry.fallback_providers if f in self._providers),
        ]
        for spelling in names:
            for each in sellers:
                if (found := each.find(spelling)) is not None:
                    return found
        return UnknownModel(seller.entry.provider, model, "model")

    def _provider(self, name: str) -> _Provider | None:
        exact = self._providers.get(name)
        if exact is not None:
            return exact
        everyone = self._providers.values()
        return next((p for p in everyone if p.matches_name is not None and p.matches_name(name)), None)

    def _infer(self, names: list[str], model: str) -> Model | UnknownModel | AmbiguousProvider:
        everyone = self._providers.values()
        for spelling in names:
            for maker in everyone:
                if (
                    maker.matches_model is not None
                    and maker.matches_model(spelling)
                    and (m := maker.find(spelling))
                ):
                    return m
        for spelling in names:
            for lookup in (_Provider.exact, _Provider.find):
                sellers = [m for p in everyone if (m := lookup(p, spelling)) is not None]
                if len(sellers) == 1:
                    return sellers[0]
                if sellers:
                    return AmbiguousProvider(model, tuple(m.provider for m in sellers))
        return UnknownModel(None, model, "model")

    def dearest(self, provider: str | None, model: str, at: datetime) -> Rates | UnknownModel:
        """Returns the dearest rates of a model's family, for tenants who let unknown models through.

        The family is the provider's models whose names start like this one up to its first "-", ":", "." or
        digit (gpt, claude, gemini); without any, all models of the provider. Each unit costs what the dearest
        of them takes for it at any tier. The provider is inferred from the name when it is not given; when no
        provider claims the name, UnknownModel is returned and the call has no price.
        """
        name = model.lower()[:MAX_NAME]
        if provider is None:
            everyone = self._providers.values()
            seller = next(
                (p for p in everyone if p.matches_model is not None and p.matches_model(name)), None
            )
        else:
            seller = self._provider(provider.lower().strip())
        if seller is None:
            return UnknownModel(provider, model, "provider")
        family = _FAMILY.match(name.rsplit("/", 1)[-1])
        stem = family.group() if family else ""
        priced = [(m.entry.model.lower(), rates) for m in seller.models if (rates := m.rates(at)) is not None]
        group = [rates for each, rates in priced if stem and each.rsplit("/", 1)[-1].startswith(stem)]
        units: dict[str, int] = {}
        for rates in group or [rates for _, rates in priced]:
            for unit, pairs in rates.units.items():
                units[unit] = max(units.get(unit, 0), *(pico for _, pico in pairs))
        if "input_tokens" not in units or "output_tokens" not in units:
            return UnknownModel(seller.entry.provider, model, "unpriced")
        return compile_rates(
            provider=seller.entry.provider,
            model=model,
            units={unit: [(0, pico)] for unit, pico in units.items()},
            price_id=max(rates.price_id for _, rates in priced),
            variant="dearest",
        )

    def etag(self, now: datetime, *, provider: str | None = None) -> str:
        """Returns an ETag for the prices in force: it changes with the book and with each dated price."""
        models = [
            m for p in self._providers.values() if provider in (None, p.entry.provider) for m in p.models
        ]
        starts = {price.effective_from for model in models for price in model.entry.prices}
        ends = {price.effective_to for model in models for price in model.entry.prices}
        past = [at for at in starts | ends if at is not None and at <= now]
        last = max(past).isoformat() if past else ""
        return '"' + hashlib.sha256(f"{self.version}|{provider}|{last}".encode()).hexdigest()[:32] + '"'
