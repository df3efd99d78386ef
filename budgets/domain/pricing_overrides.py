"""A tenant's negotiated prices, laid over the book's rates. Pure; on the hot path of the tenants that have any.

At any time at most one of them holds for a call: the one for the model's name as the caller writes it, else for the
model as the book calls it, else for all of the provider. An authorization names the one that its hold was priced with,
and its settlement is priced with the same: so a cost is never reckoned by dearer rates than its bound was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from budgets.domain.policy import ANY_MODEL, PriceOverrideRule
from budgets.domain.pricing_book import AmbiguousProvider, Model, PriceBook, UnknownModel
from budgets.domain.pricing_rates import Rates, compile_rates
from noburn.kit import ids
from noburn.kit.money import divide_even

LAID_MAX: Final = 4_096
"""How many compiled rates are kept for a tenant before its memory is started anew."""

PPM: Final = 1_000_000

Pairs = tuple[tuple[int, int], ...]


def override_of(price_name: str) -> str:
    """Returns the id of the negotiated price in `Rates.name`, empty if there is none."""
    return price_name.partition("+")[2]


class TenantPrices:
    """The negotiated prices of one policy."""

    __slots__ = ("_by_id", "_by_name", "_laid", "_sellers")

    def __init__(self, rules: Iterable[PriceOverrideRule]) -> None:
        self._by_id: dict[str, PriceOverrideRule] = {}
        self._by_name: dict[tuple[str, str], list[PriceOverrideRule]] = {}
        self._sellers: dict[str, list[str]] = {}
        self._laid: dict[tuple[UUID, str], tuple[Rates | None, Rates | None]] = {}
        for rule in rules:
            self._by_id[ids.encode(ids.PRICE_OVERRIDE, rule.override_id)] = rule
            self._by_name.setdefault((rule.provider, rule.model), []).append(rule)
            if rule.model != ANY_MODEL and rule.provider not in self._sellers.setdefault(rule.model, []):
                self._sellers[rule.model].append(rule.provider)

    def knows(self, override: str) -> bool:
        """Whether a negotiated price of this id is among them, whether or not it is in force."""
        return override in self._by_id

    def named(self, override: str) -> PriceOverrideRule | None:
        """Returns the negotiated price of this id, whether or not it is in force; None if there is none."""
        return self._by_id.get(override)

    def in_force(self, at: datetime) -> dict[str, PriceOverrideRule]:
        """Returns those in force at a time, by id."""
        return {name: rule for name, rule in self._by_id.items() if _holds(rule, at)}

    def resolve(
        self, book: PriceBook, provider: str | None, model: str, at: datetime
    ) -> Rates | UnknownModel | AmbiguousProvider:
        """Returns what `PriceBook.resolve` returns, at the tenant's own prices.

        A model that the book does not know has a price if the tenant negotiated one for its exact name, or prices
        for all of the provider. Without a provider the only one with such a price is meant.
        """
        found = book.find(provider, model)
        if isinstance(found, AmbiguousProvider):
            return found
        name = model.lower()
        if isinstance(found, Model):
            base = found.rates(at)
            seller = book.provider_named(provider) if provider else found.provider
            names = (name, found.entry.model.lower(), ANY_MODEL)
        else:
            base, names = None, (name, name, ANY_MODEL)
            if provider:
                seller = book.provider_named(provider)
            else:
                sellers = [each for each in self._sellers.get(name, ()) if self.rule(each, (name,), at)]
                if len(sellers) > 1:
                    return AmbiguousProvider(model, tuple(sellers))
                if not sellers:
                    return found
                seller = sellers[0]
        rule = self.rule(seller, names, at)
        laid = self.lay(rule, base, name) if rule is not None else base
        if laid is not None:
            return laid
        return UnknownModel(found.provider, model, "unpriced") if isinstance(found, Model) else found

    def rates_of(self, model: Model, at: datetime) -> Rates | None:
        """Returns the rates of a model of the book at the tenant's own prices."""
        name, base = model.entry.model.lower(), model.rates(at)
        rule = self.rule(model.provider, (name, ANY_MODEL), at)
        return base if rule is None else self.lay(rule, base, name)

    def rule(self, provider: str, names: Iterable[str], at: datetime) -> PriceOverrideRule | None:
        """Returns the negotiated price in force for the first of these names that has one."""
        for name in names:
            for rule in self._by_name.get((provider, name), ()):
                if _holds(rule, at):
                    return rule
        return None

    def settled(
        self, book: PriceBook, price_name: str, *, provider: str, asked: str, reported: str, at: datetime
    ) -> Rates | None:
        """Returns the rates of a settlement whose hold was priced by `price_name`; None if there are none.

        The model that was asked for, by whatever name the provider reports it, is priced by what the hold names,
        overrides that began or ended since notwithstanding. Another model is priced as of `at`.
        """
        rule = self.named(override_of(price_name))
        wanted = book.find(provider or None, asked)
        if reported and reported.lower() != asked.lower():
            answered = book.find(provider or None, reported)
            if not isinstance(answered, Model) or answered is not wanted:
                seller = rule.provider if rule is not None else provider
                found = self.resolve(book, seller or None, reported, at)
                if isinstance(found, Rates):
                    return found
        base = wanted.rates(at) if isinstance(wanted, Model) else None
        return base if rule is None else self.lay(rule, base, asked.lower())

    def lay(self, rule: PriceOverrideRule, base: Rates | None, model: str) -> Rates | None:
        """Returns rates with a negotiated price over them, as of `model` without any; None if no price comes of it."""
        key = rule.override_id, f"{base.provider}/{base.model}" if base is not None else model
        kept = self._laid.get(key)
        # A book that was loaded anew has rates of its own, and so has another time of the day.
        if kept is None or kept[0] is not base:
            kept = self._laid[key] = base, _laid_over(rule, base, model)
            if len(self._laid) > LAID_MAX:
                self._laid.clear()
        return kept[1]


def _holds(rule: PriceOverrideRule, at: datetime) -> bool:
    return rule.effective_from <= at and (rule.effective_to is None or at < rule.effective_to)


def _laid_over(rule: PriceOverrideRule, base: Rates | None, model: str) -> Rates | None:
    """Compiles rates with a negotiated price over them; None if there is no price either way."""
    units: dict[str, Pairs] = dict(base.units) if base is not None else {}
    variants = {name: dict(_own(each.units, units)) for name, each in (base.variants if base else {}).items()}
    if rule.kept_ppm is not None:
        units = dict(_scaled(units, rule.kept_ppm))
        variants = {name: dict(_scaled(own, rule.kept_ppm)) for name, own in variants.items()}
    else:
        for variant, own in negotiated_units(rule.prices).items():
            (variants.setdefault(variant, {}) if variant else units).update(own)
    if not units:
        return None
    try:
        return compile_rates(
            provider=base.provider if base is not None else rule.provider,
            model=base.model if base is not None else model,
            units=units,
            variants=variants,
            price_id=base.price_id if base is not None else 0,
            override=ids.encode(ids.PRICE_OVERRIDE, rule.override_id),
        )
    except ValueError:
        # Tiers of both that are too many together: the book's price is better than half of a negotiated one.
        return base


def negotiated_units(prices: Iterable[tuple[str, str, int, int]]) -> dict[str, dict[str, Pairs]]:
    """Returns (variant, unit, tier_start, pico) rows as pairs of tier and price, by variant and unit.

    A unit that is negotiated replaces the book's with all its tiers.
    """
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for variant, unit, start, pico in prices:
        found.setdefault(variant, {}).setdefault(unit, []).append((start, pico))
    return {
        variant: {unit: tuple(sorted(pairs)) for unit, pairs in units.items()}
        for variant, units in found.items()
    }


def _own(variant: Mapping[str, Pairs], standard: Mapping[str, Pairs]) -> Iterator[tuple[str, Pairs]]:
    """The units in which a variant differs; the others follow the standard price, also a negotiated one."""
    return ((unit, pairs) for unit, pairs in variant.items() if pairs != standard.get(unit))


def _scaled(units: Mapping[str, Pairs], kept_ppm: int) -> Iterator[tuple[str, Pairs]]:
    for unit, pairs in units.items():
        yield unit, tuple((start, divide_even(pico * kept_ppm, PPM)) for start, pico in pairs)
