"""Upper bounds of what a request to a provider can use, found in this process: prompts never leave it.

found = estimate.estimate(body, api="openai.chat")
with nb.call(**found.options(), customer="acme") as call:
    request = estimate.prepare(found, body, model=call.model, max_output_tokens=call.max_output_tokens)
    call.settle(client.chat.completions.create(**request))

OpenAI's models are counted exactly by their public ranks, Claude by bounds that were measured, everything else
by UTF-8 bytes, which no byte-level tokenizer exceeds; so are OpenAI's and Claude's where the extra
`noburn_sdk[tokens]` is missing. What is unknown makes a bound larger, never smaller, and `parts` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate import anthropic, gemini, openai, responses
from noburn_sdk.estimate.caps import output_of, prepare
from noburn_sdk.estimate.cost import Rates, UnpricedError, bound_nano, rates_from
from noburn_sdk.estimate.families import family_of
from noburn_sdk.estimate.report import explain
from noburn_sdk.estimate.tally import Tally, Total, plain
from noburn_sdk.estimate.text import bound_anthropic, count_chat, count_text
from noburn_sdk.estimate.types import Api, Estimate, How, Part

__all__ = [
    "APIS",
    "Api",
    "Estimate",
    "How",
    "Part",
    "Rates",
    "UnpricedError",
    "anthropic_messages",
    "bound_anthropic",
    "bound_nano",
    "count_chat",
    "count_text",
    "estimate",
    "explain",
    "gemini_generate_content",
    "openai_chat",
    "openai_completions",
    "openai_embeddings",
    "openai_responses",
    "prepare",
    "rates_from",
]

_ADDERS: Mapping[str, Callable[[Tally, Mapping[str, Any]], None]] = {
    "openai.chat": openai.chat,
    "openai.responses": responses.responses,
    "openai.embeddings": openai.embeddings,
    "openai.completions": openai.completions,
    "anthropic.messages": anthropic.messages,
    "gemini.generate_content": gemini.generate_content,
}
APIS: tuple[str, ...] = tuple(_ADDERS)
_TIERS = {"standard_only": "standard"}


def estimate(
    body: Mapping[str, Any],
    *,
    api: Api,
    model: str | None = None,
    limit: int | None = None,
    max_output_tokens: int | None = None,
    max_input_tokens: int | None = None,
    context_window: int | None = None,
    batch: bool = False,
    rates: Rates | Callable[..., int] | None = None,
) -> Estimate:
    """Returns upper bounds of what this request can use. `body` is what the provider would be sent, as a dict.

    `model`: where the body names none, as Gemini's. `limit`: input tokens above which the call would be
    refused anyway: then bytes are enough where they fit, and counting stops where tokens do not.
    `max_output_tokens`: the cap to assume, and to inject, where the request has none. `max_input_tokens`: what
    you know of the whole input, as from a provider's counting endpoint; needed for files, conversations and
    searches, which only the provider knows. `context_window`: the model's. `batch`: the line of a batch.
    `rates` gives `cost_nano`: `Rates`, or a function of the keywords that `Estimate.counts` returns.
    Raises InvalidRequestError for a body that is not one of this API, UnpricedError.
    """
    if api not in _ADDERS:
        message = f"must be one of {', '.join(_ADDERS)}"
        raise InvalidRequestError("Cannot estimate", errors={"api": message})
    body = plain(body)
    name = model or (body.get("model") if isinstance(body, Mapping) else None)
    if not isinstance(body, Mapping) or not isinstance(name, str) or not name:
        raise InvalidRequestError(
            "Cannot estimate", errors={"model": "must be named, in the body or beside it"}
        )
    family = family_of(name)
    tally = Tally(family)
    try:
        _ADDERS[api](tally, body)
        output = output_of(api, body, family)
        extra = _predicted(name, body)
    except (AttributeError, TypeError, ValueError, LookupError, RecursionError) as error:
        raise InvalidRequestError(
            "Cannot estimate", errors={"body": f"is not one of {api}: {error}"}
        ) from error
    total = tally.finish(
        limit=limit,
        context=context_window,
        listed=rates.context_window if isinstance(rates, Rates) else None,
        max_input_tokens=max_input_tokens,
    )
    cap = output.cap if output.cap is not None else max_output_tokens
    found = Estimate(
        api=api,
        model=name,
        input_tokens=total.tokens,
        parts=total.parts,
        max_output_tokens=None if cap is None else cap + extra,
        n=output.n,
        cached_input_tokens=_cached(api, tally, total),
        images=tally.images,
        audio=tally.audio,
        tools=tally.tools,
        service_tier=_tier(api, body, batch),
        output_extra=0 if cap is None else extra,
        has_output=api != "openai.embeddings",
        inject_cap=output.cap is None,
        exceeds_limit=total.exceeds,
        warnings=tuple(tally.warnings),
    )
    return _priced(found, rates)


def _cached(api: Api, tally: Tally, total: Total) -> int | None:
    """Only Anthropic's cache is written where the request says so; others write it as they like."""
    if api != "anthropic.messages":
        return None
    if not tally.has_mark:
        return 0
    # Where only the provider knows a part, it may lie before the mark.
    return None if any(part.how == "unknown" for part in total.parts) else total.cached


def _tier(api: Api, body: Mapping[str, Any], batch: bool) -> str | None:
    if batch:
        return "batch"
    if api == "anthropic.messages" and (dearer := anthropic.dearer_tier(body)) is not None:
        return dearer
    tier = body.get("service_tier")
    return _TIERS.get(tier, tier) if isinstance(tier, str) and tier else None


def _predicted(model: str, body: Mapping[str, Any]) -> int:
    """Predicted output that is rejected is billed as output, beside what was made."""
    prediction = plain(body.get("prediction"))
    if not isinstance(prediction, Mapping):
        return 0
    tally = Tally(family_of(model))
    openai.content(tally, prediction.get("content") or "")
    return tally.finish().tokens


def _priced(found: Estimate, rates: Rates | Callable[..., int] | None) -> Estimate:
    if rates is None or (found.max_output_tokens is None and found.has_output):
        return found
    counts = found.counts()
    cost = bound_nano(rates, **counts) if isinstance(rates, Rates) else rates(**counts)
    return replace(found, cost_nano=cost)


def openai_chat(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds a Chat Completions request; takes what `estimate` takes."""
    return estimate(body, api="openai.chat", **options)


def openai_responses(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds a Responses request; takes what `estimate` takes."""
    return estimate(body, api="openai.responses", **options)


def openai_embeddings(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds an Embeddings request; takes what `estimate` takes."""
    return estimate(body, api="openai.embeddings", **options)


def openai_completions(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds a Completions request; takes what `estimate` takes."""
    return estimate(body, api="openai.completions", **options)


def anthropic_messages(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds a Messages request; takes what `estimate` takes."""
    return estimate(body, api="anthropic.messages", **options)


def gemini_generate_content(body: Mapping[str, Any], **options: Any) -> Estimate:
    """Bounds a generateContent request; takes what `estimate` takes."""
    return estimate(body, api="gemini.generate_content", **options)
