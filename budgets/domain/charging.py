"""The most that a customer can be charged for a call, as gateways know it: rules that billing wrote into the policy.

A table is what one rate card can charge at the dearest: the first rule whose provider and model match prices a call.
Where several tables may apply, each part of the dearest counts. Pure; on the hot path of customers with a wallet.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec

from noburn.kit.money import LIMIT_NANO_MAX, divide_up

WHOLE_PPM = 1_000_000
ATTO_PER_NANO = 10**9
ATTO_PER_NANO_PPM = 1_000
ATTO_PER_PICO = 10**6
RATE_PICO_MAX = LIMIT_NANO_MAX * 1_000
"""A dearer thing is more than a counter can hold, alone; it also is what fits 64 bits in the policy."""
CEILINGS_MAX = 20_000
"""How many (customer's card, model) pairs are remembered before the memory is started anew."""


class Ceiling(msgspec.Struct, frozen=True, array_like=True):
    """At most `cost_ppm` millionths of the model's cost, and so many pico-USD (10**-12) for each thing that it uses."""

    cost_ppm: int
    input_pico: int = 0
    output_pico: int = 0
    image_pico: int = 0
    tool_call_pico: int = 0
    request_pico: int = 0

    def charge_nano(
        self,
        *,
        cost_nano: int,
        input_tokens: int = 0,
        output_tokens: int = 0,
        images: int = 0,
        tool_calls: int = 0,
    ) -> int:
        """Returns the most that such a call is charged; at most what a counter can hold."""
        pico = (
            input_tokens * self.input_pico
            + output_tokens * self.output_pico
            + images * self.image_pico
            + tool_calls * self.tool_call_pico
            + self.request_pico
        )
        atto = cost_nano * self.cost_ppm * ATTO_PER_NANO_PPM + pico * ATTO_PER_PICO
        return min(divide_up(atto, ATTO_PER_NANO), LIMIT_NANO_MAX)


AT_COST = Ceiling(WHOLE_PPM)
"""What a customer without a rate card is charged: what the model costs."""


class CeilingRule(msgspec.Struct, frozen=True, array_like=True):
    """The ceiling of calls whose provider and model match; `*` stands for any letters, `?` for one."""

    provider: str
    model: str
    ceiling: Ceiling


class ChargeRules(msgspec.Struct, frozen=True, array_like=True):
    """Which tables a tenant's customers fall under, by their places in `tables`.

    `assigned` names the tables of customers with cards of their own, `default` those of all others. It is bounded by
    whoever writes it: beyond a number of customers all tables are everybody's, which holds too much and never too little.
    """

    tables: tuple[tuple[CeilingRule, ...], ...] = ()
    default: tuple[int, ...] = ()
    assigned: dict[str, tuple[int, ...]] = {}


class Ceilings:
    """Finds the ceiling of a call; remembers what it found. Built once for each policy."""

    def __init__(self, rules: ChargeRules) -> None:
        self._rules = rules
        self._known: dict[tuple[tuple[int, ...], str, str], Ceiling] = {}

    def of(self, customer: str, provider: str, model: str) -> Ceiling:
        """The ceiling of one customer's calls of a model."""
        rules = self._rules
        places = rules.assigned.get(customer, rules.default)
        known = self._known.get((places, provider, model))
        if known is None:
            found = (_in_table(rules.tables[place], provider, model) for place in places)
            known = _dearest(found) if places else AT_COST
            if len(self._known) >= CEILINGS_MAX:
                self._known.clear()
            self._known[places, provider, model] = known
        return known


def _in_table(table: Iterable[CeilingRule], provider: str, model: str) -> Ceiling:
    provider, model = provider.lower(), model.lower()
    for rule in table:
        if fnmatchcase(provider, rule.provider) and fnmatchcase(model, rule.model):
            return rule.ceiling
    # What no rule of a card prices is not charged.
    return Ceiling(0)


def _dearest(ceilings: Iterable[Ceiling]) -> Ceiling:
    return Ceiling(
        *(max(parts) for parts in zip(*(msgspec.structs.astuple(c) for c in ceilings), strict=True))
    )


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(ChargeRules).decode
