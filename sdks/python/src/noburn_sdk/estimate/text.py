"""Counting texts and messages alone, without the rest of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from noburn_sdk import _ranks
from noburn_sdk.estimate import anthropic, openai
from noburn_sdk.estimate.families import family_of
from noburn_sdk.estimate.tally import Tally, sized


def count_text(text: str, model: str) -> int:
    """Returns the tokens of a text: exact for OpenAI's models, else an upper bound."""
    family = family_of(model)
    if not _ranks.has_ranks(family.encoding):
        return -(-sized(text, family) * family.percent // 100)
    return -(-_ranks.count(text, family.encoding) * family.percent // 100)


def count_chat(messages: Iterable[Mapping[str, Any]], model: str) -> int:
    """Returns the input tokens of a chat: 3 a message and its role, 1 beside a name, 3 to prime the answer.

    Exact for texts to OpenAI's models before GPT-5, else a bound. Raises ValueError for files and whatever else
    the messages do not tell the size of: pass `input_tokens` yourself.
    """
    tally = Tally(family_of(model))
    openai.chat(tally, {"messages": list(messages)})
    return _known(tally)


def bound_anthropic(messages: Iterable[Mapping[str, Any]], model: str, *, system: Any = None) -> int:
    """Returns a bound of what Claude bills as input for these messages.

    cl100k times 1.35 up to Claude 4.6 and times 1.85 later (and for a name without a version), plus 12, plus
    5 for every message after the first. Raises ValueError as `count_chat` does.
    """
    family = family_of(model)
    tally = Tally(family if family.vendor == "anthropic" else family_of("claude"))
    anthropic.messages(tally, {"messages": list(messages), "system": system})
    return _known(tally)


def _known(tally: Tally) -> int:
    total = tally.finish()
    for part in total.parts:
        if part.how == "unknown":
            raise ValueError(f"the request does not tell the size of {part.note}; pass input_tokens yourself")
    return total.tokens
