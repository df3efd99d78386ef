"""What a customer owes for what it used: integer arithmetic on a card's terms, rounded once.

A charge is cumulative: the price of everything from the period's start on. Let C(U) be the price of the use U at some
terms. What a stretch of time adds, during which these terms hold, is C(all use up to its end) - C(all use before it).
So the use of the period so far takes a tier or an included amount up whatever version priced it, appending a version that
says the same changes nothing, and a period may be split anywhere.

Amounts are exact until the end: atto-USD (10**-18) before tiers, millionths of that after them. Source of the rules:
docs/billing.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from billing.domain.rate_cards import (
    MILLION,
    CardVersion,
    PriceTier,
    Rate,
    RoundingMode,
    Terms,
    Unit,
)
from noburn.kit.money import divide_down, divide_even, divide_up

ATTO_PER_NANO: Final = 10**9
YOCTO_PER_NANO: Final = ATTO_PER_NANO * MILLION
"""10**-24 USD: an amount in atto times a factor in millionths."""

Model = tuple[str, str]
"""Provider and model, as the call named them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What calls of one model used and cost the tenant, presumed calls left out. Units are those of `Unit`, disjoint."""

    cost_nano: int = 0
    units: Mapping[Unit, int] = field(default_factory=dict)

    def __add__(self, other: Use) -> Use:
        units = dict(self.units)
        for unit, count in other.units.items():
            units[unit] = units.get(unit, 0) + count
        return Use(cost_nano=self.cost_nano + other.cost_nano, units=units)


Uses = Mapping[Model, Use]


def use_of_sums(
    *,
    cost_nano: int,
    requests: int = 0,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
    reasoning_tokens: int = 0,
    audio_input_tokens: int = 0,
    audio_output_tokens: int = 0,
    images: int = 0,
    tool_calls: int = 0,
) -> Use:
    """Returns the use that sums of usage stand for; there, input and output are totals that contain their kinds.

    Each token becomes one unit. Audio that was cached counts as cache reads. Never negative: what is less than nothing,
    in sums that wait for their other half, is nothing.
    """
    writes_1h = max(0, min(cache_write_1h_tokens, cache_write_tokens))
    reads, writes = max(0, cache_read_tokens), max(0, cache_write_tokens - writes_1h)
    rest = max(0, input_tokens - reads - writes - writes_1h)
    heard = max(0, min(audio_input_tokens, rest))
    reasoning, spoken = max(0, reasoning_tokens), max(0, audio_output_tokens)
    counts = {
        Unit.INPUT: rest - heard,
        Unit.CACHE_READ: reads,
        Unit.CACHE_WRITE: writes,
        Unit.CACHE_WRITE_1H: writes_1h,
        Unit.AUDIO_INPUT: heard,
        Unit.OUTPUT: max(0, output_tokens - reasoning - spoken),
        Unit.REASONING: reasoning,
        Unit.AUDIO_OUTPUT: spoken,
        Unit.IMAGES: max(0, images),
        Unit.TOOL_CALLS: max(0, tool_calls),
        Unit.REQUESTS: max(0, requests),
    }
    return Use(cost_nano=max(0, cost_nano), units={unit: count for unit, count in counts.items() if count})


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeLine:
    """One part of a charge; all lines add up to its total.

    `kind` is `cost` (what the provider charged, and the markup on it), `units` (a rate for `units` of `unit`), or of
    the whole period: `included`, `tiers`, `minimum`, `rounding`. `cost_nano` stands on lines of cost alone, which
    every model has; `units` there are its requests.
    """

    kind: str
    charge_nano: int
    provider: str = ""
    model: str = ""
    unit: str = ""
    units: int = 0
    cost_nano: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """What a customer owes for a period so far.

    `cost_nano` is what its settled use cost the tenant, `unbilled_nano` the part of it at times without a card.
    `presumed_nano` is what is presumed to have been spent besides: not billed until somebody settles or approves it.
    `versions` priced the use, in the order of time. `exact_yocto` is the total before it is rounded, without a
    minimum, in 10**-24 USD. Everything that was recorded before `complete_through` is counted; None while that is not
    known.
    """

    total_nano: int
    lines: tuple[ChargeLine, ...]
    cost_nano: int
    unbilled_nano: int
    presumed_nano: int
    versions: tuple[CardVersion, ...]
    exact_yocto: int
    complete_through: datetime | None = None

    @property
    def use_nano(self) -> int:
        """The total without a minimum and the rounding of a whole period."""
        return divide_even(self.exact_yocto, YOCTO_PER_NANO)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """What was used while one version of a card held; without a version nothing is billed."""

    version: CardVersion | None
    uses: Uses


PERCENT_PLACES: Final = 4
"""How far a percentage is from millionths, in places."""


def markup_ppm(percent: Decimal) -> int:
    """Returns the factor of a markup in millionths, exactly: 20 % is 1,200,000."""
    return MILLION + percent_ppm(percent)


def percent_ppm(percent: Decimal) -> int:
    """Returns a percentage in millionths, exactly."""
    return int(percent.scaleb(PERCENT_PLACES))


def rate_atto(price: Decimal, per: int) -> int:
    """Returns the price of one unit in atto-USD, exactly: a price has nine places, `per` is at most a million."""
    return int(price.scaleb(18)) // per


def units_atto(rate: Rate, count: int) -> int:
    """Returns what the first `count` units of a period cost in atto-USD; grows with `count` and has no jumps."""
    starts = [rate.included, *(tier.above for tier in rate.tiers)]
    prices = [rate.price, *(tier.price for tier in rate.tiers)]
    ends = [*starts[1:], max(count, starts[-1])]
    return sum(
        max(0, min(count, end) - start) * rate_atto(price, rate.per)
        for start, end, price in zip(starts, ends, prices, strict=True)
    )


def tiered_yocto(tiers: Sequence[PriceTier], included_nano: int, gross_atto: int) -> int:
    """Returns what is charged of the first `gross_atto` of a period, in 10**-24 USD; grows with it and has no jumps."""
    included = included_nano * ATTO_PER_NANO
    starts = [0, *(tier.above_nano * ATTO_PER_NANO for tier in tiers)]
    factors = [MILLION, *(percent_ppm(tier.percent) for tier in tiers)]
    ends = [*starts[1:], max(gross_atto, starts[-1])]
    return sum(
        max(0, min(gross_atto, end) - max(start, included)) * factor
        for start, end, factor in zip(starts, ends, factors, strict=True)
    )


def charge(
    stretches: Sequence[Stretch],
    *,
    presumed_nano: int = 0,
    final: CardVersion | None = None,
) -> Charge:
    """Returns what is owed for a period so far, from its stretches in the order of time.

    `final` is the version in force at the end of a period that is over: its minimum counts, and its rounding.
    """
    before: dict[Model, Use] = {}
    parts: dict[tuple[Model, str], list[int]] = {}
    costs: dict[Model, int] = {}
    requests: dict[Model, int] = {}
    free_total = tiers = unbilled = 0
    versions: list[CardVersion] = []
    for stretch in stretches:
        for model, use in stretch.uses.items():
            costs[model] = costs.get(model, 0) + use.cost_nano
            requests[model] = requests.get(model, 0) + use.units.get(Unit.REQUESTS, 0)
        if stretch.version is None:
            unbilled += sum(use.cost_nano for use in stretch.uses.values())
            continue
        if stretch.version not in versions:
            versions.append(stretch.version)
        terms = stretch.version.terms
        added = 0
        for part, units, atto in gross_parts(terms, before, stretch.uses):
            found = parts.setdefault(part, [0, 0])
            found[0] += units
            found[1] += atto
            added += atto
        start = sum(atto for _, _, atto in gross_parts(terms, {}, before)) if _bent(terms) else 0
        covered = terms.included_nano * ATTO_PER_NANO
        free = min(start + added, covered) - min(start, covered)
        net = tiered_yocto(terms.tiers, terms.included_nano, start + added) - tiered_yocto(
            terms.tiers, terms.included_nano, start
        )
        free_total -= free * MILLION
        tiers += net - (added - free) * MILLION
        for model, use in stretch.uses.items():
            before[model] = before[model] + use if model in before else use
    return _put_together(
        parts, costs, requests, free_total, tiers, unbilled, presumed_nano, tuple(versions), final
    )


def _bent(terms: Terms) -> bool:
    """Whether it matters how much was used before."""
    return bool(terms.included_nano or terms.tiers)


def gross_parts(terms: Terms, before: Uses, added: Uses) -> Iterable[tuple[tuple[Model, str], int, int]]:
    """Yields what `added` costs in atto-USD before tiers and what is included, by model and part, with its units.

    The part is `` for a markup on the cost, else a unit's name. `before` is what was used earlier in the period. Units
    that count together share what they cost by their number.
    """
    pools: dict[tuple[int, int], list[tuple[Model, Unit, int]]] = {}
    for model in sorted(added):
        use = added[model]
        at = terms.rule_at(*model)
        rule = None if at is None else terms.rules[at]
        markup = terms.markup_percent if rule is None else rule.markup_percent
        if markup is not None:
            yield (model, ""), 0, use.cost_nano * 1000 * markup_ppm(markup)
        if rule is None or at is None:
            continue
        for unit in Unit:
            count = use.units.get(unit, 0)
            rate = rule.rate_of(unit) if count else None
            if rate is not None:
                pools.setdefault((at, rule.rates.index(rate)), []).append((model, unit, count))
    for (at, place), members in pools.items():
        rate = terms.rules[at].rates[place]
        start = _pooled(terms, at, rate, before) if rate.included or rate.tiers else 0
        total = sum(count for _, _, count in members)
        price = units_atto(rate, start + total) - units_atto(rate, start)
        seen = paid = 0
        for model, unit, count in members:
            seen += count
            share = divide_down(price * seen, total) - paid
            paid += share
            yield (model, unit.value), count, share


def _pooled(terms: Terms, at: int, rate: Rate, uses: Uses) -> int:
    """How many units of `uses` count for a rate of the rule at a place."""
    rule = terms.rules[at]
    return sum(
        count
        for model, use in uses.items()
        if terms.rule_at(*model) == at
        for unit, count in use.units.items()
        if rule.rate_of(unit) is rate
    )


def round_period(nano: int, to_nano: int, mode: RoundingMode) -> int:
    """Returns a period's total as a multiple of `to_nano`."""
    divide = {RoundingMode.UP: divide_up, RoundingMode.DOWN: divide_down}.get(mode, divide_even)
    return divide(nano, to_nano) * to_nano


def _put_together(
    parts: Mapping[tuple[Model, str], list[int]],
    costs: Mapping[Model, int],
    requests: Mapping[Model, int],
    free_total: int,
    tiers: int,
    unbilled: int,
    presumed: int,
    versions: tuple[CardVersion, ...],
    final: CardVersion | None,
) -> Charge:
    """Rounds the running sum after each line: so the lines add up to the rounded total."""
    lines: list[ChargeLine] = []
    exact = shown = 0

    def take(yocto: int) -> int:
        nonlocal exact, shown
        exact += yocto
        step = divide_even(exact, YOCTO_PER_NANO) - shown
        shown += step
        return step

    for model in sorted(costs):
        provider, name = model
        _, atto = parts.get((model, ""), (0, 0))
        lines.append(
            ChargeLine(
                kind="cost",
                provider=provider,
                model=name,
                units=requests[model],
                cost_nano=costs[model],
                charge_nano=take(atto * MILLION),
            )
        )
        for unit in Unit:
            if (model, unit.value) in parts:
                count, atto = parts[model, unit.value]
                lines.append(
                    ChargeLine(
                        kind="units",
                        provider=provider,
                        model=name,
                        unit=unit.value,
                        units=count,
                        charge_nano=take(atto * MILLION),
                    )
                )
    if free_total:
        lines.append(ChargeLine(kind="included", charge_nano=take(free_total)))
    if tiers:
        lines.append(ChargeLine(kind="tiers", charge_nano=take(tiers)))
    total = shown
    if final is not None:
        if total < final.terms.minimum_nano:
            lines.append(ChargeLine(kind="minimum", charge_nano=final.terms.minimum_nano - total))
            total = final.terms.minimum_nano
        rounding = final.terms.rounding
        rounded = round_period(total, rounding.to_nano, rounding.mode)
        if rounded != total:
            lines.append(ChargeLine(kind="rounding", charge_nano=rounded - total))
            total = rounded
    return Charge(
        total_nano=total,
        lines=tuple(lines),
        cost_nano=sum(costs.values()),
        unbilled_nano=unbilled,
        presumed_nano=presumed,
        versions=versions,
        exact_yocto=exact,
    )
