"""How every customer of a tenant can be priced at once: which cards are simple enough to be added up by the database.

A customer's use is priced there when one version holds for the whole time, or when none of several depends on what
was used before. What its price is made of is data then: factors by model, and bands of the price so far. Everybody
else is priced one by one (`billing.domain.charging`), and there may be a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from billing.domain.card_timelines import Assignment, Span
from billing.domain.charging import ATTO_PER_NANO, Model, markup_ppm, percent_ppm, rate_atto
from billing.domain.rate_cards import MILLION, Terms, Unit

ENDLESS: Final = 10**60
"""No price in atto-USD is as high."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """What use of one model costs in a span: millionths of its cost, and atto-USD for each unit, in the order of Unit."""

    span: int
    model: Model
    cost_ppm: int
    units_atto: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """Of the price between two amounts in atto-USD, so many millionths are charged."""

    low_atto: int
    high_atto: int
    ppm: int


def changes_within(own: Sequence[Assignment], starts: Span) -> bool:
    """Tells whether a customer's own assignments change in a time, so that it is like no other customer."""
    return any(starts.starts_at < assignment.effective_from < starts.ends_at for assignment in own)


def is_simple(spans: Sequence[Span]) -> bool:
    """Tells whether the database can price use under these spans."""
    terms = [span.version.terms for span in spans if span.version is not None]
    if any(rate.included or rate.tiers for each in terms for rule in each.rules for rate in rule.rates):
        return False
    return len(spans) == 1 or not any(each.included_nano or each.tiers for each in terms)


def factors(spans: Sequence[Span], numbers: Mapping[int, int], models: Iterable[Model]) -> list[Factor]:
    """Returns the factors of some models. `numbers` says under which of `spans` each numbered span of the query is."""
    known = list(models)
    found = []
    for number, place in numbers.items():
        version = spans[place].version
        if version is not None:
            found += [_factor(version.terms, number, model) for model in known]
    return found


def _factor(terms: Terms, number: int, model: Model) -> Factor:
    at = terms.rule_at(*model)
    rule = None if at is None else terms.rules[at]
    markup = terms.markup_percent if rule is None else rule.markup_percent
    rates = [rule.rate_of(unit) if rule is not None else None for unit in Unit]
    return Factor(
        span=number,
        model=model,
        cost_ppm=0 if markup is None else markup_ppm(markup),
        units_atto=tuple(0 if rate is None else rate_atto(rate.price, rate.per) for rate in rates),
    )


def bands(spans: Sequence[Span]) -> list[Band]:
    """Returns what is charged of the price so far: by the tiers of the one version and what it includes, else all of it."""
    version = spans[0].version if len(spans) == 1 else None
    if version is None:
        return [Band(low_atto=0, high_atto=ENDLESS, ppm=MILLION)]
    terms = version.terms
    included = terms.included_nano * ATTO_PER_NANO
    starts = [0, *(tier.above_nano * ATTO_PER_NANO for tier in terms.tiers)]
    parts = [MILLION, *(percent_ppm(tier.percent) for tier in terms.tiers)]
    return [
        Band(low_atto=max(low, included), high_atto=high, ppm=ppm)
        for low, high, ppm in zip(starts, [*starts[1:], ENDLESS], parts, strict=True)
        if high > included
    ]
