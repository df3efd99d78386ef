"""What a comparison cannot know, in words: each note says how many calls it is about, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from budgets.domain.comparison import Comparison
from budgets.domain.comparison_figures import Note
from budgets.domain.tokenizers import MOST


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """One note, spelled out. `model` is the candidate that it is about, or None."""

    code: Note
    model: str | None
    calls: int
    amount_nano: int | None
    message: str


OF_CALLS: Final = {
    Note.CONTEXT_WINDOW: "Calls that are longer than its context window are left out: they could not have run on it.",
    Note.CONTEXT_WINDOW_UNCHECKED: "Sums do not tell how long single calls were: some may be longer than its context "
    "window. Ask for fewer calls to have them counted.",
    Note.UNPRICED_UNITS: "Calls that used what it has no price for (tools, audio, pictures or the like) are left out.",
    Note.NO_PRICE: "The price book has no price for it now: nothing can be compared with it.",
    Note.SERVICE_TIER: "Calls of a service tier (batch, flex, priority) that it has no price for are taken at its "
    "standard price.",
    Note.CACHE_WRITES_UNSEEN: "It takes a price for writing into its cache, and these calls told of no writes: "
    "with_caching_usd has none. with_caching_most_usd has all input written that was not read from the cache; the truth "
    "lies between.",
    Note.IMAGES: "Providers count images each in a way of their own: these calls' images are taken at the counts that "
    "were told.",
    Note.PRICE_CHANGED: "What was paid is not what the same model costs today: candidates are taken at today's prices.",
    Note.TOLD_COST: "The recorded cost is not what the tokens cost by the price that they were settled at, since a "
    "client told the cost or a count had no price. They are compared, and left out of rates and break-even.",
    Note.NO_LIST_PRICE: "The price book has no price for the model of these calls: list_usd is without them.",
    Note.NOT_COUNTED: "Nothing tells how many tokens these calls used, or at what price: they are left out.",
    Note.PRESUMED: "What is presumed of calls that nobody settled is left out.",
    Note.SAMPLE: "There are more calls than are looked at one by one: these are the newest. Ask for less time, for a "
    "customer, a project or a model to see all of its calls.",
    Note.UNEXPLAINED: "So much of the recorded cost is not what the sums of tokens cost at standard prices, since some "
    "calls were batch or priority, answered by another model, or had a cost told by a client.",
    Note.GROUPS: "There are more groups than are added up: the totals are of all, the groups are the dearest, and a "
    "group may lack models that it hardly used.",
}


def warnings_of(comparison: Comparison) -> list[Remark]:
    """Returns every note of a comparison, in a fixed order."""
    order = {note: at for at, note in enumerate(Note)}
    found = sorted(comparison.notes.items(), key=lambda one: (order[one[0][0]], one[0][1]))
    return [
        Remark(
            code=note,
            model=model or None,
            calls=calls,
            amount_nano=comparison.amounts.get(note) if not model else None,
            message=" ".join(_tokenizers(comparison, model))
            if note is Note.TOKENIZERS_DIFFER
            else OF_CALLS[note],
        )
        for (note, model), calls in found
        if calls or note in comparison.amounts
    ]


def _tokenizers(comparison: Comparison, model: str) -> Iterator[str]:
    factor = format(comparison.token_factor.normalize(), "f")
    yield "It counts the same text in other tokens than the model that was used."
    yield (
        f"Token counts are multiplied by {factor}."
        if comparison.token_factor != 1
        else "The counts of the model that was used are taken as they are."
    )
    for name, used, its in sorted(comparison.pairs):
        if name == model:
            most = MOST.get((used, its))
            yield (
                f"From {used} to {its} a count became at most {most} times as many, in texts of 89 languages."
                if most
                else f"From {used} to {its} nothing is measured."
            )
    yield "Measure texts of your own and send token_factor; break_even.token_factor says how much it may be."
