"""What calls would have cost on other models, priced as they were settled: by `pricing.cost_nano` and nothing else.

Calls come one by one, or as sums of many where every rate is linear. Both fill the same figures: a call's cost is rounded
by itself, as the ledger's is; a sum is rounded once, so the two differ by at most half a nano-USD a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from budgets.domain.comparison_figures import (
    Added,
    Call,
    Candidate,
    Cell,
    Figures,
    Group,
    LeftOut,
    Note,
    Own,
    Priced,
    Sums,
    tokenizer_for,
)
from budgets.domain.comparison_parts import (
    TOKENS,
    Flat,
    Flats,
    Parts,
    parts_of,
    scaled,
    uncached,
    uncached_parts,
)
from budgets.domain.pricing import PricingError, cost_nano
from budgets.domain.pricing_rates import STANDARD_TIERS, BadUsage, Rates, UnpricedUnit, Usage
from budgets.domain.tokenizers import tokenizer_of
from noburn.kit.money import pico_to_nano_even

_OWN_UNITS: Final = ("output_image_tokens", "output_video_tokens", "input_video_tokens")
"""What a model without a price for it cannot do, though it would be charged as plain tokens."""


class Comparison:
    """Figures of all calls and of each group, growing as calls are added."""

    def __init__(self, candidates: Sequence[Candidate], token_factor: Decimal) -> None:
        self.candidates = tuple(candidates)
        self._tokenizers = [tokenizer_for(candidate) for candidate in candidates]
        self._factor = self.token_factor = token_factor
        self._flats = Flats()
        self.totals = self._figures()
        self.groups: dict[Group, Figures] = {}
        self.notes: Counter[tuple[Note, str]] = Counter()
        """Calls that a note is about, by the note and the candidate's name ("": of no candidate)."""

        self.amounts: Counter[Note] = Counter()
        """Nano-USD that a note is about."""

        self.pairs: set[tuple[str, str, str]] = set()
        """Candidates whose tokens are counted otherwise: their name, and the two tokenizers."""

    def add_call(self, call: Call) -> None:
        """Adds one call. Raises BadUsage for one that no settlement would have taken."""
        usage, parts = call.usage, parts_of(call.usage)
        if min(parts) < 0:
            raise BadUsage({"input_tokens": "must be at least the sum of its parts"})
        bare = uncached(usage)
        # What was paid is the cost at its own rates: it need not be reckoned again.
        own = Own(
            call.cost_nano if call.paid is not None and bare is usage else _nano(call.paid, bare),
            call.cost_nano
            if call.paid is not None and call.listed is call.paid
            else _nano(call.listed, usage),
        )
        tokenizer = tokenizer_of(call.model)
        key = cell = None
        if call.paid is not None and own.plain_nano is not None:
            paid = self._flats.of(call.paid, usage.service_tier, usage.input_tokens)
            listed = call.listed and self._flats.of(call.listed, usage.service_tier, usage.input_tokens)
            key = id(paid), id(listed), usage.service_tier, tokenizer
            cell = Cell(paid, listed or None, tokenizer, parts)
        priced = [
            self._price_call(call, candidate, differs) for candidate, differs in self._each(tokenizer, 1)
        ]
        self._add(call.group, True, Added(key, cell, 1, call.cost_nano, own, priced, parts))
        if own.list_nano is None:
            self.notes[Note.NO_LIST_PRICE, ""] += 1
        if usage.images or usage.units.get("input_image_tokens"):
            self.notes[Note.IMAGES, ""] += 1

    def leave_out(self, note: Note, *, calls: int, nano: int) -> None:
        """Notes calls that are not part of the comparison, and what they cost."""
        self.notes[note, ""] += calls
        self.amounts[note] += nano

    def add_sums(self, sums: Sums, *, to_totals: bool = True, to_group: bool = True) -> None:
        """Adds sums. Their rates, and the candidates' of this day, must be linear."""
        tokenizer = tokenizer_of(sums.model)
        paid = self._flats.of(sums.paid, None, 0)
        listed = self._flats.of(sums.listed, None, 0) if sums.listed is not None else None
        own = Own(
            _sum_nano(paid, uncached_parts(sums.parts)),
            _sum_nano(listed, sums.parts) if listed is not None else None,
        )
        priced = [
            self._price_sums(sums, candidate, differs)
            for candidate, differs in self._each(tokenizer, sums.calls if to_totals else 0)
        ]
        key = id(paid), id(listed), None, tokenizer
        cell = Cell(paid, listed, tokenizer, sums.parts)
        self._add(
            sums.group if to_group else None,
            to_totals,
            Added(key, cell, sums.calls, sums.cost_nano, own, priced, sums.parts),
        )
        if not to_totals:
            return
        if listed is None:
            self.notes[Note.NO_LIST_PRICE, ""] += sums.calls
        if sums.parts[9]:
            self.notes[Note.IMAGES, ""] += sums.parts[9]

    def _figures(self) -> Figures:
        return Figures(self.candidates, self._factor)

    def _add(self, group: Group | None, to_totals: bool, added: Added) -> None:
        if group is not None:
            figures = self.groups.get(group)
            if figures is None:
                figures = self.groups[group] = self._figures()
            figures.add(added)
        if not to_totals:
            return
        self.totals.add(added)
        for candidate, on in zip(self.candidates, added.priced, strict=True):
            if on.why is not None:
                self.notes[Note(on.why.value), candidate.name] += added.calls

    def _each(self, tokenizer: str, calls: int) -> Iterable[tuple[Candidate, bool]]:
        """Each candidate, and whether it counts tokens otherwise than the model does."""
        for candidate, its in zip(self.candidates, self._tokenizers, strict=True):
            differs = its != tokenizer
            if differs:
                self.notes[Note.TOKENIZERS_DIFFER, candidate.name] += calls
                self.pairs.add((candidate.name, tokenizer, its))
            yield candidate, differs

    def _price_call(self, call: Call, candidate: Candidate, differs: bool) -> Priced:
        rates, usage = candidate.rates.at(call.placed_at), call.usage
        if rates is None:
            return Priced(why=LeftOut.NO_PRICE)
        if differs and self._factor != 1:
            usage = scaled(usage, self._factor)
        window = candidate.context_window
        same = call.paid is not None and (call.paid.provider, call.paid.model) == (
            rates.provider,
            rates.model,
        )
        # What it ran on has room for it and a price, whatever the book says.
        if not same and window is not None and usage.input_tokens + usage.output_tokens > window:
            return Priced(why=LeftOut.CONTEXT_WINDOW)
        if not same and _lacks(rates, usage):
            return Priced(why=LeftOut.UNPRICED_UNITS)
        try:
            cached = cost_nano(rates, usage)
            bare = uncached(usage)
            plain = cached if bare is usage else cost_nano(rates, bare)
        except PricingError:
            return Priced(why=LeftOut.UNPRICED_UNITS)
        tier = usage.service_tier
        if tier and tier not in STANDARD_TIERS and tier not in rates.variants:
            self.notes[Note.SERVICE_TIER, candidate.name] += 1
        return Priced(cached, plain, self._flats.of(rates, tier, usage.input_tokens))

    def _price_sums(self, sums: Sums, candidate: Candidate, differs: bool) -> Priced:
        rates = candidate.rates.only
        if rates is None:
            return Priced(why=LeftOut.NO_PRICE)
        same = (sums.paid.provider, sums.paid.model) == (rates.provider, rates.model)
        parts = list(sums.parts)
        if not same and _lacks(
            rates, Usage(audio_input_tokens=parts[4] + parts[5], audio_output_tokens=parts[8])
        ):
            return Priced(why=LeftOut.UNPRICED_UNITS)
        if differs and self._factor != 1:
            over, under = self._factor.as_integer_ratio()
            parts = [count * over // under if at in TOKENS else count for at, count in enumerate(parts)]
        flat = self._flats.of(rates, None, 0)
        cached, plain = _sum_nano(flat, parts), _sum_nano(flat, uncached_parts(parts))
        if cached is None or plain is None:
            return Priced(why=LeftOut.UNPRICED_UNITS)
        return Priced(cached, plain, flat)


def is_linear(rates: Rates) -> bool:
    """Whether sums of tokens say what calls cost: no tier, and nothing for each request."""
    return not rates.starts and not rates.per_request


def sums_nano(rates: Rates, parts: Parts) -> int | None:
    """What sums cost at linear rates, in nano-USD; None where something has no price."""
    return _sum_nano(Flats().of(rates, None, 0), parts)


def _lacks(rates: Rates, usage: Usage) -> bool:
    if not (usage.audio_input_tokens or usage.audio_output_tokens or usage.units):
        return False
    return bool(
        (usage.audio_input_tokens and "input_audio_tokens" not in rates.units)
        or (usage.audio_output_tokens and "output_audio_tokens" not in rates.units)
        or any(usage.units.get(unit) and unit not in rates.units for unit in _OWN_UNITS)
    )


def _nano(rates: Rates | None, usage: Usage) -> int | None:
    if rates is None:
        return None
    try:
        return cost_nano(rates, usage)
    except PricingError:
        return None


def _sum_nano(flat: Flat, parts: Parts) -> int | None:
    try:
        return pico_to_nano_even(flat.pico(parts))
    except UnpricedUnit:
        return None
