"""The most that a call can cost its customer: the dearest marginal rate of a card, as data for the policy.

Whatever the customer used before in the period, a charge grows by no more than this for a call: what is included is taken
to be used up, and the dearest tier to hold. A period's minimum and its rounding are no call's, and no ceiling covers
them; nor does one cover a call that is re-rated later.

The hot path imports nothing of billing. What it needs is in `Marginal.as_data()`: six integers, and one multiplication
for each, spelt out in `ceiling_nano`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from billing.domain.charging import (
    ATTO_PER_NANO,
    Use,
    markup_ppm,
    percent_ppm,
    rate_atto,
)
from billing.domain.rate_cards import INPUT_UNITS, MILLION, OUTPUT_UNITS, Rule, Terms, Unit
from noburn.kit.money import divide_up

ATTO_PER_NANO_PPM: Final = ATTO_PER_NANO // MILLION


@dataclass(frozen=True, kw_only=True, slots=True)
class Marginal:
    """What one more call of a model can cost: millionths of its provider cost, and atto-USD (10**-18) for each unit.

    `input_atto` is for a token of input of whatever kind, `output_atto` for one of output; `units` tells the kinds apart,
    without those that cost nothing. All are rounded up.
    """

    cost_ppm: int
    input_atto: int
    output_atto: int
    image_atto: int
    tool_call_atto: int
    request_atto: int
    units: Mapping[Unit, int]

    def as_data(self) -> dict[str, int]:
        """Returns it as JSON for a policy snapshot."""
        return {
            "cost_ppm": self.cost_ppm,
            "input_atto": self.input_atto,
            "output_atto": self.output_atto,
            "image_atto": self.image_atto,
            "tool_call_atto": self.tool_call_atto,
            "request_atto": self.request_atto,
        }

    def ceiling_nano(
        self,
        *,
        cost_bound_nano: int,
        input_tokens: int = 0,
        output_tokens: int = 0,
        images: int = 0,
        tool_calls: int = 0,
        requests: int = 1,
    ) -> int:
        """Returns the most that calls can cost their customer, in nano-USD rounded up.

        `cost_bound_nano` bounds what they cost the tenant; the counts bound all input, all output (of all choices) and
        the rest.
        """
        atto = (
            cost_bound_nano * ATTO_PER_NANO_PPM * self.cost_ppm
            + input_tokens * self.input_atto
            + output_tokens * self.output_atto
            + images * self.image_atto
            + tool_calls * self.tool_call_atto
            + requests * self.request_atto
        )
        return divide_up(atto, ATTO_PER_NANO)

    def ceiling_of_use(self, use: Use) -> int:
        """Returns the most that a known use can cost, by its kinds, in nano-USD rounded up."""
        atto = use.cost_nano * ATTO_PER_NANO_PPM * self.cost_ppm + sum(
            count * self.units.get(unit, 0) for unit, count in use.units.items()
        )
        return divide_up(atto, ATTO_PER_NANO)


def marginal_ceiling(terms: Terms | None, provider: str, model: str) -> Marginal:
    """Returns the dearest marginal rates of one model. Without terms nothing is billed, and all of them are 0."""
    if terms is None:
        return FREE
    at = terms.rule_at(provider, model)
    return _marginal(terms, None if at is None else terms.rules[at])


def ceilings(terms: Terms | None) -> list[dict[str, Any]]:
    """Returns the dearest rates of every model as data: a list, of which the first entry that matches holds.

    An entry has `provider` and `model`, patterns with `*` and `?` for names in lower case, and what `Marginal.as_data`
    says. The last one matches everything.
    """
    if terms is None:
        return [{**EVERYTHING, **FREE.as_data()}]
    return [
        *(
            {"provider": rule.provider, "model": rule.model, **_marginal(terms, rule).as_data()}
            for rule in terms.rules
        ),
        {**EVERYTHING, **_marginal(terms, None).as_data()},
    ]


def _marginal(terms: Terms, rule: Rule | None) -> Marginal:
    markup = terms.markup_percent if rule is None else rule.markup_percent
    dearest = _dearest_ppm(terms)
    units = {unit: atto for unit in Unit if (atto := _unit_atto(rule, unit, dearest))}
    return Marginal(
        cost_ppm=0 if markup is None else divide_up(markup_ppm(markup) * dearest, MILLION),
        input_atto=max(units.get(unit, 0) for unit in INPUT_UNITS),
        output_atto=max(units.get(unit, 0) for unit in OUTPUT_UNITS),
        image_atto=units.get(Unit.IMAGES, 0),
        tool_call_atto=units.get(Unit.TOOL_CALLS, 0),
        request_atto=units.get(Unit.REQUESTS, 0),
        units=units,
    )


def _dearest_ppm(terms: Terms) -> int:
    """The factor of the dearest tier; what lies below the first one is charged whole."""
    factors = [percent_ppm(tier.percent) for tier in terms.tiers]
    if not terms.tiers or terms.tiers[0].above_nano > 0:
        factors.append(MILLION)
    return max(factors)


def _unit_atto(rule: Rule | None, unit: Unit, dearest_ppm: int) -> int:
    rate = rule.rate_of(unit) if rule is not None else None
    if rate is None:
        return 0
    price = max([rate.price, *(tier.price for tier in rate.tiers)])
    return divide_up(rate_atto(price, rate.per) * dearest_ppm, MILLION)


EVERYTHING: Final[Mapping[str, str]] = {"provider": "*", "model": "*"}

FREE: Final = Marginal(
    cost_ppm=0, input_atto=0, output_atto=0, image_atto=0, tool_call_atto=0, request_atto=0, units={}
)
