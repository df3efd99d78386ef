"""What settled calls teach about the next ones: how much of a bound a call really uses. Pure.

Used by budgets with `estimate: learned` alone. Such a budget holds what nearly all calls of a model used instead
of the most that a call can use; it is soft, because one call in a hundred may use more than it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

PPM: Final = 1_000_000

SAMPLES_MIN: Final = 50
"""Fewer settled calls than this teach nothing: the bound stays."""

QUANTILES: Final = (50, 90, 95, 99)
"""The percentiles that are kept and shown."""

USED_QUANTILE: Final = 99
"""The percentile that holds are made of."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One settled call: what was bounded and what was used. Output counts are of one choice of `n`."""

    input_bound: int
    input_used: int
    output_used: int


@dataclass(frozen=True, slots=True)
class Learned:
    """What a tenant's calls of one model use: percentiles of input used in ppm of its bound, and of output tokens."""

    samples: int
    input_ppm: tuple[int, ...]
    output_tokens: tuple[int, ...]

    @property
    def used(self) -> tuple[int, int]:
        """The (input ppm, output tokens) that holds are made of."""
        at = QUANTILES.index(USED_QUANTILE)
        return self.input_ppm[at], self.output_tokens[at]


def learn(samples: Iterable[Sample]) -> Learned | None:
    """Returns what samples teach; None if they are too few."""
    told = list(samples)
    if len(told) < SAMPLES_MIN:
        return None
    ratios = sorted(min(PPM, -(-s.input_used * PPM // s.input_bound)) if s.input_bound else PPM for s in told)
    outputs = sorted(s.output_used for s in told)
    return Learned(
        samples=len(told),
        input_ppm=tuple(percentile(ratios, q) for q in QUANTILES),
        output_tokens=tuple(percentile(outputs, q) for q in QUANTILES),
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """Returns the smallest value that at least `percent` of a hundred values do not exceed (nearest rank)."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, rank - 1)]


def differs(old: Learned | None, new: Learned | None) -> bool:
    """Tells whether holds would change enough to publish it: by more than 2 % of the input or of the output."""
    if old is None or new is None:
        return old is not new
    (was_ppm, was), (now_ppm, now) = old.used, new.used
    return abs(now_ppm - was_ppm) > PPM // 50 or abs(now - was) * 50 > max(was, 1)
