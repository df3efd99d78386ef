"""What groups of calls used and cost, and what they would have cost elsewhere: figures that calls are added to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from budgets.domain.comparison_break_even import BreakEven, Mix, break_even
from budgets.domain.comparison_parts import (
    INPUT,
    INPUTS,
    OUTPUTS,
    READ,
    WRITE,
    WRITE_1H,
    Flat,
    Parts,
    uncached_parts,
)
from budgets.domain.pricing_rates import Rates, Usage
from budgets.domain.tokenizers import tokenizer_of
from noburn.kit.money import pico_to_nano_even

Group = tuple[str | None, ...]
Key = tuple[int, int, str | None, str]


class LeftOut(StrEnum):
    """Why a call is not compared with a candidate."""

    NO_PRICE = "no_price"
    CONTEXT_WINDOW = "context_window"
    UNPRICED_UNITS = "unpriced_units"


class Note(StrEnum):
    """What a reader must know of a comparison."""

    NO_PRICE = "no_price"
    CONTEXT_WINDOW = "context_window"
    CONTEXT_WINDOW_UNCHECKED = "context_window_unchecked"
    UNPRICED_UNITS = "unpriced_units"
    TOKENIZERS_DIFFER = "tokenizers_differ"
    CACHE_WRITES_UNSEEN = "cache_writes_unseen"
    SERVICE_TIER = "service_tier"
    IMAGES = "images"
    PRICE_CHANGED = "price_changed"
    TOLD_COST = "told_cost"
    NO_LIST_PRICE = "no_list_price"
    NOT_COUNTED = "not_counted"
    PRESUMED = "presumed"
    SAMPLE = "sample"
    UNEXPLAINED = "unexplained"
    GROUPS = "groups"


@dataclass(frozen=True, kw_only=True, slots=True)
class DayRates:
    """A model's rates on one day: each from its minute (UTC) on, the first from minute 0."""

    steps: tuple[tuple[int, Rates | None], ...]

    @property
    def only(self) -> Rates | None:
        """The rates of all of the day; None if there are several, or none."""
        return self.steps[0][1] if len(self.steps) == 1 else None

    def at(self, at: datetime) -> Rates | None:
        """The rates at the time of day of `at`."""
        if len(self.steps) == 1:
            return self.steps[0][1]
        utc = at.astimezone(UTC)
        minute = utc.hour * 60 + utc.minute
        return [rates for start, rates in self.steps if start <= minute][-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model that calls are priced on, at what the tenant pays for it now."""

    name: str
    rates: DayRates
    context_window: int | None

    @property
    def priced(self) -> Rates | None:
        """Rates to show: the first of the day."""
        return next((rates for _, rates in self.rates.steps if rates is not None), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One settled call: what it used, what the ledger has it at, and the rates that it was paid, and is listed, at.

    `paid` is None unless the usage costs `cost_nano` at those rates.
    """

    group: Group
    placed_at: datetime
    model: str
    usage: Usage
    cost_nano: int
    paid: Rates | None
    listed: Rates | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Many calls of one model at linear rates, added up. `cost_nano` is what was settled, presumptions left out."""

    group: Group
    model: str
    calls: int
    parts: Parts
    cost_nano: int
    paid: Rates
    listed: Rates | None


@dataclass(slots=True)
class Cell:
    """Calls of one price: within it every cost is linear."""

    paid: Flat
    listed: Flat | None
    tokenizer: str
    parts: Parts


@dataclass(slots=True)
class Versus:
    """Calls against one candidate. `actual_nano` is of the calls that are compared."""

    calls: int = 0
    actual_nano: int = 0
    cached_nano: int = 0
    plain_nano: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    missing: dict[Key, Parts] = field(default_factory=dict)
    flats: dict[Key, Flat] = field(default_factory=dict)
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class Priced:
    """A call, or sums, on one candidate."""

    cached_nano: int = 0
    plain_nano: int = 0
    flat: Flat | None = None
    why: LeftOut | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """A call, or sums, on its own model; None without a price."""

    plain_nano: int | None
    list_nano: int | None


@dataclass(frozen=True, slots=True)
class Added:
    """Calls with all that they cost, ready to be added to a group and to the totals."""

    key: Key | None
    cell: Cell | None
    calls: int
    cost_nano: int
    own: Own
    priced: Sequence[Priced]
    parts: Parts


class Figures:
    """What one group of calls, or all of them, used and cost, and would have cost."""

    def __init__(self, candidates: Sequence[Candidate], factor: Decimal) -> None:
        self._candidates, self._factor = candidates, Fraction(factor)
        self.calls = self.actual_nano = self.list_nano = self.plain_nano = 0
        self.listed_calls = self.paid_calls = 0
        self.parts: Parts = [0] * 10
        self.cells: dict[Key, Cell] = {}
        self.versus = [Versus() for _ in candidates]

    def add(self, added: Added) -> None:
        """Adds calls with what they cost here and there."""
        key, calls, own = added.key, added.calls, added.own
        self.calls += calls
        self.actual_nano += added.cost_nano
        _add(self.parts, added.parts)
        if own.list_nano is not None:
            self.list_nano += own.list_nano
            self.listed_calls += calls
        if own.plain_nano is not None:
            self.plain_nano += own.plain_nano
            self.paid_calls += calls
        if key is not None and added.cell is not None:
            mine = self.cells.get(key)
            if mine is None:
                mine = self.cells[key] = replace(added.cell, parts=[0] * 10)
            _add(mine.parts, added.parts)
        for versus, on in zip(self.versus, added.priced, strict=True):
            if on.why is not None:
                versus.left_out[on.why] += calls
                if key is not None:
                    _add(versus.missing.setdefault(key, [0] * 10), added.parts)
                continue
            versus.calls += calls
            versus.actual_nano += added.cost_nano
            versus.cached_nano += on.cached_nano
            versus.plain_nano += on.plain_nano
            if key is not None and on.flat is not None:
                versus.mixed |= versus.flats.setdefault(key, on.flat) is not on.flat

    @property
    def input_tokens(self) -> int:
        """All input."""
        return sum(self.parts[at] for at in INPUTS)

    @property
    def output_tokens(self) -> int:
        """All output."""
        return sum(self.parts[at] for at in OUTPUTS)

    @property
    def cache_read_tokens(self) -> int:
        """Input that was read from a cache."""
        return self.parts[READ] + self.parts[5]

    @property
    def cache_write_tokens(self) -> int:
        """Input that was written into one."""
        return self.parts[WRITE] + self.parts[WRITE_1H]

    def paid_rate(self, which: Sequence[int]) -> Fraction | None:
        """Pico-USD really paid for a token of these parts, the discount of caches included."""
        return self._rate(which, [(cell.paid, cell.parts, cell.parts) for cell in self.cells.values()])

    def list_rate(self, which: Sequence[int]) -> Fraction | None:
        """Pico-USD by the price list for a token of these parts, without a cache."""
        return self._rate(
            which,
            [
                (cell.listed, uncached_parts(cell.parts), cell.parts)
                for cell in self.cells.values()
                if cell.listed is not None
            ],
        )

    @staticmethod
    def _rate(which: Sequence[int], cells: Iterable[tuple[Flat, Parts, Parts]]) -> Fraction | None:
        cost = tokens = 0
        for flat, parts, used in cells:
            cost += sum(parts[at] * (flat.unit[at] or 0) for at in which)
            tokens += sum(used[at] for at in which)
        return Fraction(cost, tokens) if tokens else None

    def break_even(self, index: int) -> BreakEven | None:
        """Points of equal cost with a candidate; None where its rates are not one straight line for these calls."""
        versus = self.versus[index]
        if versus.mixed or not versus.calls:
            return None
        return break_even(self._mixes(index))

    def unseen_writes_nano(self, index: int) -> int | None:
        """What a candidate would take more if all input that was not read from a cache had been written into one.

        None where that is no question: writes were told, nothing was read, or the candidate takes nothing for writing.
        """
        if self.cache_write_tokens or not self.cache_read_tokens or self.versus[index].mixed:
            return None
        more = sum(
            (
                mix.factor
                * mix.parts[INPUT]
                * max(Fraction(0), mix.candidate.rate(WRITE) - mix.candidate.rate(INPUT))
                for mix in self._mixes(index)
            ),
            Fraction(0),
        )
        return pico_to_nano_even(round(more)) if more else None

    def _mixes(self, index: int) -> list[Mix]:
        versus, tokenizer = self.versus[index], tokenizer_for(self._candidates[index])
        found = []
        for key, cell in self.cells.items():
            flat, parts = versus.flats.get(key), cell.parts
            if flat is None:
                continue
            if (missing := versus.missing.get(key)) is not None:
                parts = [count - gone for count, gone in zip(parts, missing, strict=True)]
            factor = self._factor if cell.tokenizer != tokenizer else Fraction(1)
            found.append(Mix(parts, cell.paid, flat, factor))
        return found


def tokenizer_for(candidate: Candidate) -> str:
    """The tokenizer that counts for a candidate."""
    rates = candidate.priced
    return tokenizer_of(rates.model if rates is not None else candidate.name)


def _add(to: Parts, parts: Parts) -> None:
    for at, count in enumerate(parts):
        if count:
            to[at] += count
