"""Cheaper models that a call would fit with, for the answer to one that does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from budgets.domain.pricing import PricingError, Rates, bound_nano
from budgets.domain.pricing_book import Model, PriceBook
from budgets.domain.pricing_rates import AUDIO_HOUR_UNITS

_NOT_TEXT: Final = frozenset(
    {"output_audio_tokens", "output_image_tokens", "output_video_tokens", *AUDIO_HOUR_UNITS.values()}
)


@dataclass(frozen=True)
class Alternative:
    """A cheaper model of the same provider and the bound of the same call with it."""

    model: str
    bound_nano: int


def alternatives(
    book: PriceBook,
    provider: str,
    *,
    at: datetime,
    input_tokens: int,
    max_output_tokens: int,
    at_most_nano: int,
    n: int = 1,
    limit: int = 3,
    allowed: Callable[[str], bool] | None = None,
    rates_of: Callable[[Model, datetime], Rates | None] = Model.rates,
) -> list[Alternative]:
    """Returns models of a provider whose bound for this call is at most `at_most_nano`, dearest first.

    The dearest that fits comes first since it is the nearest to what was asked for. Left out are models that the
    provider is not known to offer under that name, deprecated, free, not priced at that time, too small for the
    call, or not for text (priced by speech, pictures, hours or a fee for each request), and those that `allowed`
    refuses. `rates_of` gives a model's rates where they are not the book's own.
    """
    fits: list[Alternative] = []
    for model in book.models(provider):
        entry = model.entry
        if not entry.offered or entry.deprecated:
            continue
        if entry.context_window is not None and entry.context_window <= input_tokens:
            continue
        rates = rates_of(model, at)
        if rates is None or not _writes_text(rates) or (allowed is not None and not allowed(entry.model)):
            continue
        try:
            bound = bound_nano(
                rates, input_tokens=input_tokens, max_output_tokens=max_output_tokens, n=n, text_only=True
            )
        except PricingError:
            continue
        if 0 < bound <= at_most_nano:
            fits.append(Alternative(entry.model, bound))
    fits.sort(key=lambda fit: (-fit.bound_nano, fit.model))
    return fits[:limit]


def _writes_text(rates: Rates) -> bool:
    return (
        rates.prices_input
        and rates.prices_output
        and not rates.per_request
        and not _NOT_TEXT.intersection(rates.units)
    )
