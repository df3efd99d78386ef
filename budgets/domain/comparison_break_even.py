"""From where on another model is cheaper: closed forms of two models' rates over one mix of tokens.

Everything is a straight line: the difference in cost (candidate less present) over the share of input that is read from
a cache, over input tokens per output token, or over how many more tokens the candidate counts. Tokens alone are
compared; fees of requests, images and tools are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from budgets.domain.comparison_parts import INPUT, INPUTS, OUTPUTS, READ, TEXT_INPUT, WRITE, WRITE_1H, Flat


class Cheaper(StrEnum):
    """Where the candidate is cheaper: beyond a point, short of it, everywhere or nowhere."""

    ABOVE = "above"
    BELOW = "below"
    ALWAYS = "always"
    NEVER = "never"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two costs are equal, and on which side of it the candidate is cheaper."""

    cheaper: Cheaper
    at: Fraction | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakEven:
    """Points of equal cost, of what the calls used; what is not named stays as it happened.

    `cached_share` is the share of text input that is read from a cache: by the candidate alone, the present model as it
    happened, and by both alike. Each token that is read brings `written_per_read` that are written, as they did.
    `input_output_ratio` is input tokens for each output token. `token_factor` is how many tokens the candidate may count
    where the present model counts one; it is at least 0.
    """

    cached_share: Crossing
    cached_share_of_both: Crossing
    input_output_ratio: Crossing | None
    token_factor: Crossing | None
    written_per_read: Fraction


@dataclass(frozen=True, slots=True)
class Mix:
    """Calls of one price: their parts, what they were paid by, what the candidate takes, and its token factor."""

    parts: Sequence[int]
    paid: Flat
    candidate: Flat
    factor: Fraction


def crossing(begin: Fraction, slope: Fraction, end: Fraction | None) -> Crossing:
    """Where `begin + slope * x` is zero for x from 0 to `end` (None: without one); negative is cheaper."""
    last = slope or begin if end is None else begin + slope * end
    first = begin or slope
    if not first and not last:
        return Crossing(Cheaper.SAME)
    if first <= 0 and last <= 0:
        return Crossing(Cheaper.ALWAYS)
    if first >= 0 and last >= 0:
        return Crossing(Cheaper.NEVER)
    return Crossing(Cheaper.ABOVE if slope < 0 else Cheaper.BELOW, -begin / slope)


def break_even(mixes: Iterable[Mix]) -> BreakEven | None:
    """Returns the points of equal cost; None without text input."""
    every = list(mixes)
    text = sum(mix.parts[at] for mix in every for at in TEXT_INPUT)
    if not text:
        return None
    read = sum(mix.parts[READ] for mix in every)
    written = sum(mix.parts[at] for mix in every for at in (WRITE, WRITE_1H))
    hour = Fraction(sum(mix.parts[WRITE_1H] for mix in every), written) if written else Fraction(0)
    per_read = Fraction(written, read) if read else Fraction(0)

    present = candidate = single = Fraction(0)
    present_in = candidate_in = present_plain = candidate_plain = Fraction(0)
    present_slope = candidate_slope = Fraction(0)
    tokens_in = tokens_out = 0
    for mix in every:
        paid, other, factor = mix.paid, mix.candidate, mix.factor
        paid_in, paid_out = _cost(paid, mix.parts, INPUTS), _cost(paid, mix.parts, OUTPUTS)
        other_in, other_out = _cost(other, mix.parts, INPUTS), _cost(other, mix.parts, OUTPUTS)
        present += paid_in + paid_out
        candidate += factor * (other_in + other_out)
        single += other_in + other_out
        present_in += paid_in
        candidate_in += factor * other_in
        of_text = sum(mix.parts[at] for at in TEXT_INPUT)
        for at in TEXT_INPUT:
            # What it would be without a cache.
            paid_in += mix.parts[at] * (paid.rate(INPUT) - paid.rate(at))
            other_in += mix.parts[at] * (other.rate(INPUT) - other.rate(at))
        present_plain += paid_in + paid_out
        candidate_plain += factor * (other_in + other_out)
        present_slope += of_text * _of_cache(paid, per_read, hour)
        candidate_slope += factor * of_text * _of_cache(other, per_read, hour)
        tokens_in += sum(mix.parts[at] for at in INPUTS)
        tokens_out += sum(mix.parts[at] for at in OUTPUTS)

    most = 1 / (1 + per_read)
    ratio = None
    if tokens_out:
        inward = (candidate_in - present_in) / tokens_in
        outward = ((candidate - candidate_in) - (present - present_in)) / tokens_out
        ratio = crossing(outward, inward, None)
    return BreakEven(
        cached_share=crossing(candidate_plain - present, candidate_slope, most),
        cached_share_of_both=crossing(candidate_plain - present_plain, candidate_slope - present_slope, most),
        input_output_ratio=ratio,
        token_factor=crossing(-present, single, None),
        written_per_read=per_read,
    )


def _cost(flat: Flat, parts: Sequence[int], which: Sequence[int]) -> Fraction:
    return Fraction(sum(parts[at] * (flat.unit[at] or 0) for at in which))


def _of_cache(flat: Flat, per_read: Fraction, hour: Fraction) -> Fraction:
    """What it costs more to read a token from a cache, and to write as much as goes with it, than to send it plain."""
    plain = flat.rate(INPUT)
    write = (1 - hour) * flat.rate(WRITE) + hour * flat.rate(WRITE_1H)
    return flat.rate(READ) - plain + per_read * (write - plain)
