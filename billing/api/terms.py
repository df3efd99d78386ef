"""What a rate card says, on the wire."""

from __future__ import annotations

from typing import Any, Final

from rest_framework import serializers

from billing.domain.rate_card_reading import (
    COUNT_MAX,
    PER,
    InvalidTerms,
    read_terms,
)
from billing.domain.rate_cards import RULES_MAX, TIERS_MAX, RoundingMode, Terms, Unit
from budgets.api.amounts import CountField
from noburn.kit.problems import FieldError
from noburn.kit.rest.serializers import Strict

EXAMPLE: Final = {
    "markup_percent": "20",
    "rules": [
        {
            "provider": "openai",
            "model": "gpt-4o*",
            "markup_percent": None,
            "rates": [
                {
                    "unit": "input",
                    "price_usd": "3",
                    "per": 1000000,
                    "included": 100000,
                    "tiers": [{"above": 10000000, "price_usd": "2.5"}],
                },
                {"unit": "output", "price_usd": "12", "per": 1000000, "included": 0, "tiers": []},
            ],
        }
    ],
    "included_usd": "5",
    "minimum_usd": "20",
    "tiers": [{"above_usd": "1000", "percent": "90"}],
    "rounding": {"to_usd": "0.01", "mode": "half_even"},
}

_USD = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,9})?$"
_PRICE = r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$"
_PERCENT = r"^-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?$"


def _text(pattern: str, said: str, **options: Any) -> serializers.RegexField:
    return serializers.RegexField(
        pattern, max_length=24, error_messages={"invalid": f"must be {said}"}, **options
    )


def usd_text(**options: Any) -> serializers.RegexField:
    """An amount of USD, kept as its text."""
    return _text(_USD, 'a decimal string in USD with up to nine places, such as "0.25"', **options)


def _price() -> serializers.RegexField:
    return _text(_PRICE, 'a decimal string in USD with up to nine places, such as "0.25"')


def _percent(**options: Any) -> serializers.RegexField:
    return _text(_PERCENT, 'a decimal string with up to four places, such as "12.5"', **options)


def _many(item: type[serializers.Serializer[Any]], most: int) -> serializers.BaseSerializer[Any]:
    options: dict[str, Any] = {"many": True, "required": False, "max_length": most}
    return item(**options)


class RateTier(Strict):
    """From so many units of a period on, another price."""

    above = CountField(min_value=0, max_value=COUNT_MAX)
    price_usd = _price()


class CardRate(Strict):
    """The price of a unit."""

    unit = serializers.ChoiceField(choices=[unit.value for unit in Unit])
    price_usd = _price()
    per = serializers.ChoiceField(
        choices=list(PER),
        required=False,
        help_text="For how many units the price is: by default a million of tokens, one of anything else.",
    )
    included = CountField(
        min_value=0,
        max_value=COUNT_MAX,
        required=False,
        help_text="So many units of each period are free. 0 by default.",
    )
    tiers = _many(RateTier, TIERS_MAX)


class CardRule(Strict):
    """How calls of some models are priced: a markup on their cost, rates for units, or both."""

    provider = serializers.CharField(
        max_length=200, required=False, help_text="A name, or a pattern with `*` and `?`. `*` by default."
    )
    model = serializers.CharField(
        max_length=200, required=False, help_text="A name, or a pattern with `*` and `?`. `*` by default."
    )
    markup_percent = _percent(
        required=False, allow_null=True, help_text="On the provider's cost; null: the cost is not passed on."
    )
    rates = _many(CardRate, len(Unit))


class CardTier(Strict):
    """From so much of a period's price on, so much of it is charged."""

    above_usd = usd_text()
    percent = _percent(help_text='"90" is a discount of a tenth.')


class CardRounding(Strict):
    """How a period's total is rounded at its end."""

    to_usd = usd_text(required=False, help_text='To multiples of it: "0.01", "0.000001". A nano by default.')
    mode = serializers.ChoiceField(choices=[mode.value for mode in RoundingMode], required=False)


class CardTerms(Strict):
    """What a rate card says. The first rule that matches prices a call; `markup_percent` prices what none matches."""

    markup_percent = _percent(
        required=False,
        allow_null=True,
        help_text="On the provider's cost of what no rule matches; null: that costs nothing.",
    )
    rules = _many(CardRule, RULES_MAX)
    included_usd = usd_text(required=False, help_text="So much of each period's price is free.")
    minimum_usd = usd_text(required=False, help_text="So much is owed for each whole period at least.")
    tiers = _many(CardTier, TIERS_MAX)
    rounding = CardRounding(required=False)


def terms_of(values: Any, *, field: str = "terms") -> Terms:
    """Returns what a validated body says. Raises InvalidTerms with every error, below the name of its field."""
    try:
        return read_terms(values)
    except InvalidTerms as invalid:
        raise InvalidTerms(
            [FieldError(f"{field}.{error.field}", error.message) for error in invalid.errors]
        ) from None
