"""Output caps: where each API keeps its own, and how one is put into a request that has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noburn_sdk.estimate.families import Family, family_of
from noburn_sdk.estimate.gemini import config_of, get
from noburn_sdk.estimate.openai import prompts
from noburn_sdk.estimate.tally import plain
from noburn_sdk.estimate.types import N_MAX, Api, Estimate

COMPLETIONS_CAP = 16
"""What OpenAI's Completions produce where the request does not say; others may go on for ever."""
CHAT_CAPS = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True)
class Output:
    """The output that a request asks for: its cap for one answer, if it has one, and how many answers."""

    cap: int | None
    n: int = 1


def output_of(api: Api, body: Mapping[str, Any], family: Family) -> Output:
    """Reads the cap and the number of answers. Reasoning and thinking count inside the cap of every API."""
    match api:
        case "openai.chat":
            # OpenAI refuses both at once; whoever else takes them may heed either.
            caps = [_count(body.get(name)) for name in CHAT_CAPS]
            return Output(max((cap for cap in caps if cap is not None), default=None), _least(body.get("n")))
        case "openai.responses":
            return Output(_count(body.get("max_output_tokens")))
        case "openai.completions":
            best = max(_least(body.get("n")), _least(body.get("best_of")))
            cap = _count(body.get("max_tokens"))
            many = max(1, len(prompts(body.get("prompt"))))
            if cap is None and family.vendor == "openai":
                cap = COMPLETIONS_CAP
            return Output(cap, best * many)
        case "anthropic.messages":
            return Output(_count(body.get("max_tokens")))
        case "gemini.generate_content":
            config = config_of(body)
            return Output(_count(get(config, "max_output_tokens")), _least(get(config, "candidate_count")))
        case "openai.embeddings":
            return Output(0)


def prepare(
    estimate: Estimate,
    body: Mapping[str, Any],
    *,
    model: str | None = None,
    max_output_tokens: int | None = None,
) -> dict[str, Any]:
    """Returns a copy of the request with the model and the cap that were allowed.

    The cap goes where the request had one, else where its API keeps it. Without `max_output_tokens` it is the
    estimate's. Pass what the pre-flight answered: `prepare(found, body, model=call.model,
    max_output_tokens=call.max_output_tokens)`.
    """
    made = dict(body)
    if model is not None and "model" in body:
        made["model"] = model
    cap = estimate.max_output_tokens if max_output_tokens is None else max_output_tokens
    if cap is None or not estimate.has_output:
        return made
    if estimate.n > N_MAX and max_output_tokens is not None:
        cap //= estimate.n
    cap = max(1, cap - estimate.output_extra)
    if estimate.api == "gemini.generate_content":
        return _with_gemini_cap(made, cap)
    for name in _fields(estimate, body):
        made[name] = cap
    return made


def _fields(estimate: Estimate, body: Mapping[str, Any]) -> tuple[str, ...]:
    if estimate.api == "openai.responses":
        return ("max_output_tokens",)
    if estimate.api == "openai.chat":
        given = tuple(name for name in CHAT_CAPS if body.get(name) is not None)
        if given:
            return given
        if family_of(estimate.model).vendor == "openai":
            return ("max_completion_tokens",)
    return ("max_tokens",)


def _with_gemini_cap(made: dict[str, Any], cap: int) -> dict[str, Any]:
    name = next(
        (name for name in ("generationConfig", "generation_config", "config") if made.get(name)), None
    )
    name = name or "generationConfig"
    given = plain(made.get(name))
    config = dict(given) if isinstance(given, Mapping) else {}
    snake = name != "generationConfig" and "maxOutputTokens" not in config
    config["max_output_tokens" if snake else "maxOutputTokens"] = cap
    made[name] = config
    return made


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _least(value: Any) -> int:
    return max(1, _count(value) or 1)
