"""Reads what a rate card says from JSON, and names everything that is wrong with it at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

from billing.domain.rate_cards import (
    MILLION,
    RULES_MAX,
    TIERS_MAX,
    TOKEN_UNITS,
    PriceTier,
    Rate,
    Rounding,
    RoundingMode,
    Rule,
    Terms,
    Unit,
    UnitTier,
)
from noburn.kit.money import NANO, BadAmount, from_usd
from noburn.kit.problems import FieldError, Invalid

MARKUP_MAX: Final = 10_000
TIER_PERCENT_MAX: Final = 1_000
COUNT_MAX: Final = 10**15
PER: Final = (1, 1_000, MILLION)
ROUND_TO_NANO_MAX: Final = NANO

_PERCENT = re.compile(r"-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?", re.ASCII)
_PRICE = re.compile(r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?", re.ASCII)
_PATTERN = re.compile(r"[^\s\[\]]{1,200}")

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class InvalidTerms(Invalid):
    """A rate card that breaks rules; `errors` names every one."""


def read_terms(data: Mapping[str, Any]) -> Terms:
    """Reads terms. What is left out is none of it. Raises InvalidTerms with every error."""
    reader = _Reader()
    terms = reader.terms(data)
    if reader.errors:
        raise InvalidTerms(reader.errors)
    return terms


class _Reader:
    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def wrong(self, field: str, message: str) -> None:
        self.errors.append(FieldError(field, message))

    def known(self, at: str, data: Mapping[str, Any], names: tuple[str, ...]) -> None:
        for name in data:
            if name not in names:
                self.wrong(f"{at}{name}", "is not a field of this object")

    def terms(self, data: Mapping[str, Any]) -> Terms:
        self.known("", data, ("markup_percent", "rules", "included_usd", "minimum_usd", "tiers", "rounding"))
        markup = self.markup("markup_percent", data.get("markup_percent"))
        rules = self.items("rules", data.get("rules"), RULES_MAX, self.rule)
        if data.get("markup_percent") is None and not data.get("rules"):
            self.wrong("markup_percent", "say a markup, rules, or both")
        return Terms(
            markup_percent=markup,
            rules=rules,
            included_nano=self.usd("included_usd", data.get("included_usd", "0")),
            minimum_nano=self.usd("minimum_usd", data.get("minimum_usd", "0")),
            tiers=self.price_tiers(data.get("tiers")),
            rounding=self.rounding(data.get("rounding")),
        )

    def rule(self, at: str, data: Mapping[str, Any]) -> Rule:
        self.known(at, data, ("provider", "model", "markup_percent", "rates"))
        names = {}
        for name in ("provider", "model"):
            text = data.get(name, "*")
            if not isinstance(text, str) or not _PATTERN.fullmatch(text) or not text.isprintable():
                self.wrong(f"{at}{name}", "must be a name, or a pattern with * and ?, of 1 to 200 characters")
                text = "*"
            names[name] = text.lower()
        markup = self.markup(f"{at}markup_percent", data.get("markup_percent"))
        rates = self.items(f"{at}rates", data.get("rates"), len(Unit), self.rate)
        if data.get("markup_percent") is None and not data.get("rates"):
            self.wrong(f"{at}markup_percent", "a rule says a markup, rates, or both")
        units = [rate.unit for rate in rates]
        for number, unit in enumerate(units):
            if unit in units[:number]:
                self.wrong(f"{at}rates[{number}].unit", "is given twice in this rule")
        return Rule(**names, markup_percent=markup, rates=rates)

    def rate(self, at: str, data: Mapping[str, Any]) -> Rate:
        self.known(at, data, ("unit", "price_usd", "per", "included", "tiers"))
        unit = self.word(f"{at}unit", data.get("unit"), Unit, Unit.INPUT)
        per = data.get("per", MILLION if unit in TOKEN_UNITS else 1)
        if isinstance(per, bool) or per not in PER:
            self.wrong(f"{at}per", f"must be one of {', '.join(map(str, PER))}")
            per = 1
        included = self.count(f"{at}included", data.get("included", 0))
        tiers = self.items(f"{at}tiers", data.get("tiers"), TIERS_MAX, self.unit_tier)
        before = included
        for number, tier in enumerate(tiers):
            if tier.above <= before:
                self.wrong(
                    f"{at}tiers[{number}].above", "must be above the tier before it and what is included"
                )
            before = max(before, tier.above)
        return Rate(
            unit=unit,
            price=self.price(f"{at}price_usd", data.get("price_usd")),
            per=int(per),
            included=included,
            tiers=tiers,
        )

    def unit_tier(self, at: str, data: Mapping[str, Any]) -> UnitTier:
        self.known(at, data, ("above", "price_usd"))
        return UnitTier(
            above=self.count(f"{at}above", data.get("above")),
            price=self.price(f"{at}price_usd", data.get("price_usd")),
        )

    def price_tiers(self, data: Any) -> tuple[PriceTier, ...]:
        tiers = self.items("tiers", data, TIERS_MAX, self.price_tier)
        before = 0
        for number, tier in enumerate(tiers):
            if number and tier.above_nano <= before:
                self.wrong(f"tiers[{number}].above_usd", "must be above the tier before it")
            before = max(before, tier.above_nano)
        return tiers

    def price_tier(self, at: str, data: Mapping[str, Any]) -> PriceTier:
        self.known(at, data, ("above_usd", "percent"))
        return PriceTier(
            above_nano=self.usd(f"{at}above_usd", data.get("above_usd")),
            percent=self.percent(f"{at}percent", data.get("percent"), 0, TIER_PERCENT_MAX),
        )

    def rounding(self, data: Any) -> Rounding:
        if data is None:
            return Rounding()
        if not isinstance(data, Mapping):
            self.wrong("rounding", "must be an object")
            return Rounding()
        self.known("rounding.", data, ("to_usd", "mode"))
        to_nano = self.usd("rounding.to_usd", data.get("to_usd", "0.000000001"))
        if not 1 <= to_nano <= ROUND_TO_NANO_MAX or NANO % to_nano:
            self.wrong("rounding.to_usd", "must be a part of a dollar, such as 0.01 or 0.000001")
            to_nano = 1
        mode = self.word("rounding.mode", data.get("mode", "half_even"), RoundingMode, RoundingMode.UP)
        return Rounding(to_nano=to_nano, mode=mode)

    def items(
        self, field: str, data: Any, most: int, read: Callable[[str, Mapping[str, Any]], T]
    ) -> tuple[T, ...]:
        if data is None:
            return ()
        if not isinstance(data, list | tuple) or len(data) > most:
            self.wrong(field, f"must be a list of at most {most}")
            return ()
        found = []
        for number, item in enumerate(data):
            if isinstance(item, Mapping):
                found.append(read(f"{field}[{number}].", item))
            else:
                self.wrong(f"{field}[{number}]", "must be an object")
        return tuple(found)

    def word(self, field: str, value: Any, words: type[E], otherwise: E) -> E:
        if isinstance(value, str) and value in words._value2member_map_:
            return words(value)
        self.wrong(field, f"must be one of {', '.join(words)}")
        return otherwise

    def markup(self, field: str, value: Any) -> Decimal | None:
        return None if value is None else self.percent(field, value, -100, MARKUP_MAX)

    def percent(self, field: str, value: Any, least: int, most: int) -> Decimal:
        if not isinstance(value, str) or not _PERCENT.fullmatch(value) or not least <= Decimal(value) <= most:
            self.wrong(field, f"must be a decimal string from {least} to {most} with at most four places")
            return Decimal(0)
        # "-0" is 0.
        return Decimal(value) + 0

    def price(self, field: str, value: Any) -> Decimal:
        if not isinstance(value, str) or not _PRICE.fullmatch(value):
            self.wrong(field, 'must be a decimal string in USD with up to nine places, such as "0.25"')
            return Decimal(0)
        return Decimal(value)

    def usd(self, field: str, value: Any) -> int:
        try:
            return from_usd(value, field=field)
        except BadAmount as bad:
            self.wrong(field, bad.message)
            return 0

    def count(self, field: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
            self.wrong(field, f"must be a whole number from 0 to {COUNT_MAX}")
            return 0
        return value
