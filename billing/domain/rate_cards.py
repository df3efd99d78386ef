"""What a rate card says: markups and rates by model, an included amount, a minimum, tiers and rounding.

A card has versions. A version holds from a full hour on and is never changed once it counts; what it says are its
`Terms`, read whole from JSON by `read_terms` and written back by `show_terms`. Rates are decimals here; what a customer
owes is integer arithmetic on them (`billing.domain.charging`).

- The first rule whose provider and model match prices a call; `markup_percent` is for what no rule matches.
- A rule passes the provider's cost on with a markup, or prices units, or both: cost + 20 %, and 0.001 USD a request.
- A unit without a rate of its own counts as the unit that contains it (UNIT_FALLBACK), else it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from noburn.kit.money import to_usd

MILLION: Final = 10**6

RULES_MAX: Final = 200
TIERS_MAX: Final = 20


class Unit(StrEnum):
    """What a rate may be for. Tokens of one call are counted once: `input` is what no other kind of input is."""

    INPUT = "input"
    CACHE_READ = "cache_read"
    CACHE_WRITE = "cache_write"
    CACHE_WRITE_1H = "cache_write_1h"
    AUDIO_INPUT = "audio_input"
    OUTPUT = "output"
    REASONING = "reasoning"
    AUDIO_OUTPUT = "audio_output"
    IMAGES = "images"
    TOOL_CALLS = "tool_calls"
    REQUESTS = "requests"


INPUT_UNITS: Final = (
    Unit.INPUT,
    Unit.CACHE_READ,
    Unit.CACHE_WRITE,
    Unit.CACHE_WRITE_1H,
    Unit.AUDIO_INPUT,
)
OUTPUT_UNITS: Final = (Unit.OUTPUT, Unit.REASONING, Unit.AUDIO_OUTPUT)
TOKEN_UNITS: Final = frozenset({*INPUT_UNITS, *OUTPUT_UNITS})

UNIT_FALLBACK: Final[Mapping[Unit, Unit]] = MappingProxyType(
    {
        Unit.CACHE_READ: Unit.INPUT,
        Unit.CACHE_WRITE: Unit.INPUT,
        Unit.CACHE_WRITE_1H: Unit.CACHE_WRITE,
        Unit.AUDIO_INPUT: Unit.INPUT,
        Unit.REASONING: Unit.OUTPUT,
        Unit.AUDIO_OUTPUT: Unit.OUTPUT,
    }
)
"""As which unit one counts that a rule has no rate for."""


class RoundingMode(StrEnum):
    """How a period's total is rounded."""

    HALF_EVEN = "half_even"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitTier:
    """From `above` units of the period on, `price` USD for `per` units (the rate's)."""

    above: int
    price: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """`price` USD for `per` units. The first `included` units of a period are free; then `tiers` may change the price.

    Tiers are graduated: each prices the units above its start alone. Units of all models that the rule matches count
    together.
    """

    unit: Unit
    price: Decimal
    per: int
    included: int = 0
    tiers: tuple[UnitTier, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How calls are priced whose provider and model match; `*` stands for any letters, `?` for one."""

    provider: str
    model: str
    markup_percent: Decimal | None = None
    rates: tuple[Rate, ...] = ()

    def matches(self, provider: str, model: str) -> bool:
        """Tells whether it prices this model; names are compared in lower case."""
        return fnmatchcase(provider.lower(), self.provider) and fnmatchcase(model.lower(), self.model)

    def rate_of(self, unit: Unit) -> Rate | None:
        """The rate as which a unit counts, or None where it costs nothing."""
        wanted: Unit | None = unit
        while wanted is not None:
            for rate in self.rates:
                if rate.unit is wanted:
                    return rate
            wanted = UNIT_FALLBACK.get(wanted)
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceTier:
    """From `above_nano` of the period's price on, `percent` of it is charged: 90 is a discount of a tenth."""

    above_nano: int
    percent: Decimal


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding:
    """At a period's end its total is rounded to a multiple of `to_nano`."""

    to_nano: int = 1
    mode: RoundingMode = RoundingMode.HALF_EVEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What one version of a card says.

    `markup_percent` prices what no rule matches; None: that costs nothing. The first `included_nano` of a period's price
    are free. `tiers` are graduated over the period's price, beginning with what is included. `minimum_nano` is
    owed for a whole period at least, and rounding is done once, at its end.
    """

    markup_percent: Decimal | None = None
    rules: tuple[Rule, ...] = ()
    included_nano: int = 0
    minimum_nano: int = 0
    tiers: tuple[PriceTier, ...] = ()
    rounding: Rounding = Rounding()

    def rule_at(self, provider: str, model: str) -> int | None:
        """The place of the first rule that prices a model; None: the default does."""
        for at, rule in enumerate(self.rules):
            if rule.matches(provider, model):
                return at
        return None

    @property
    def linear(self) -> bool:
        """Whether a charge is the sum of each model's cost times a factor: nothing depends on the period so far."""
        return not (
            self.included_nano or self.minimum_nano or self.tiers or any(rule.rates for rule in self.rules)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CardVersion:
    """One version of a card: in force from `effective_from`, a full hour (UTC), until the next one begins."""

    card_id: UUID
    number: int
    effective_from: datetime
    terms: Terms


def show_decimal(value: Decimal) -> str:
    """Returns a decimal as people write it: no exponent, no trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show_terms(terms: Terms) -> dict[str, Any]:
    """Returns terms as JSON, complete and in one spelling: what is stored, shown and read again."""
    return {
        "markup_percent": None if terms.markup_percent is None else show_decimal(terms.markup_percent),
        "rules": [
            {
                "provider": rule.provider,
                "model": rule.model,
                "markup_percent": None if rule.markup_percent is None else show_decimal(rule.markup_percent),
                "rates": [
                    {
                        "unit": rate.unit.value,
                        "price_usd": show_decimal(rate.price),
                        "per": rate.per,
                        "included": rate.included,
                        "tiers": [
                            {"above": tier.above, "price_usd": show_decimal(tier.price)}
                            for tier in rate.tiers
                        ],
                    }
                    for rate in rule.rates
                ],
            }
            for rule in terms.rules
        ],
        "included_usd": to_usd(terms.included_nano),
        "minimum_usd": to_usd(terms.minimum_nano),
        "tiers": [
            {"above_usd": to_usd(tier.above_nano), "percent": show_decimal(tier.percent)}
            for tier in terms.tiers
        ],
        "rounding": {"to_usd": to_usd(terms.rounding.to_nano), "mode": terms.rounding.mode.value},
    }
