"""Schemas of the data plane's requests, made from the very structs that read them, with a sentence for each field."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from budgets.domain.pricing_rates import MAX_COUNT, TOOL_UNITS, USAGE_UNITS
from budgets.gateway.openapi import runs
from budgets.gateway.wire import TAGS_MAX, Extend, Preflight, Settle, SettleBatch, Void
from noburn.kit.openapi import USD_PATTERN, Schema, ref

_AUTHORIZATION = "What the pre-flight answered, unchanged."

WORDS: Final[dict[str, dict[str, str]]] = {
    "Preflight": {
        "": "The call that is to be made, and the most that it can use.",
        "model": "The model's name, as the provider knows it.",
        "input_tokens": "An upper bound of the input.",
        "max_output_tokens": "The output cap that you will send to the provider; without one, the tenant's default.",
        "provider": "Needed when several providers sell the model.",
        "subject": "Who the call is for.",
        "tags": f"Up to {TAGS_MAX} texts by name; budgets and reports go by them.",
        "ttl_seconds": "How long the hold lives unsettled; then it is presumed spent.",
        "dry_run": "Decide and hold nothing.",
        "n": "How many answers are asked for.",
        "cached_input_tokens": "How many input tokens may be written to a cache at most; without it, all.",
        "images": "How many pictures the input has.",
        "audio": "Whether there is audio in the input or the output.",
        "tools": "The provider's own tools that may be used, by name, and how often at most.",
        "fingerprint": "Names what is asked, so that a repeated request can be recognised. Never the prompt itself.",
        "service_tier": "The provider's tier: `batch`, `flex`, `priority`, `auto`; without one, the standard tier.",
        "cost_usd": "Your own upper bound, for tools and for models without a price; beside a known price the "
        "larger of the two counts.",
        "fit": "Make `max_output_tokens` smaller instead of refusing.",
        "wait_ms": "Wait so long for holds in flight before `budget_busy` is answered.",
        "models": "Models to try in order, after `model`: the first that policies and budgets allow is answered. `model` "
        "may be left out beside it.",
        "task": "What the call is for, in a word of yours: rules of policies may choose its model by it.",
        "output": "What it is to write: `text`, `json`, or `schema` for JSON by a strict schema. For rules of policies.",
        "steps": "How many messages or steps it goes through. For rules of policies.",
    },
    "Subject": {
        "": "Who a call is for. Customers and users that nobody knows yet are made on their first use.",
        "project": "An existing project; without one, the key's, else `default`.",
        "customer": "Your customer, by the id that you have for it.",
        "user": "The person who asks.",
        "run": "One run of an agent.",
        "plan": "The plan that the customer is on.",
    },
    "Settle": {
        "": "What a call used. It may come late, and is recorded whole even above the hold.",
        "authorization": _AUTHORIZATION,
        "usage": "What the provider counted. Null when nothing was seen of the call: all of its hold is then presumed "
        "spent, until a later settlement corrects it. It may be left out only beside `cost_usd`.",
        "model": "The exact model that answered, if it differs from the one that was asked for.",
        "outcome": "How the call ended.",
        "latency_ms": "How long the provider took; for your statistics.",
        "cost_usd": "What the call cost, where the price book cannot tell.",
    },
    "Usage": {
        "": "What the provider counted. A part never exceeds the total that contains it.",
        "input_tokens": "All of the input: cache reads, cache writes and audio are parts of it.",
        "output_tokens": "All of the output: reasoning and audio are parts of it.",
        "cache_read_tokens": "Input that was read from a cache.",
        "cache_write_tokens": "Input that was written to a cache.",
        "cache_write_1h_tokens": "The part of the writes that is kept for an hour.",
        "reasoning_tokens": "Output that was reasoning.",
        "audio_input_tokens": "Input that was audio.",
        "audio_output_tokens": "Output that was audio.",
        "images": "Pictures, for models that charge them by the piece.",
        "tool_calls": "Uses of the provider's own tools, by name.",
        "service_tier": "The tier that served the call.",
        "units": "What few models charge for, by name.",
    },
    "SettleBatch": {
        "": "Up to 1,000 settlements. Each is answered by itself: a bad one spoils no other.",
        "settlements": "Bodies of `POST /v1/settle`.",
    },
    "Void": {
        "": "A call that never reached the provider. The whole hold is freed.",
        "authorization": _AUTHORIZATION,
    },
    "Extend": {
        "": "A hold that is to live longer.",
        "authorization": _AUTHORIZATION,
        "ttl_seconds": "How long from now; at most 15 minutes from the hold's placing.",
    },
}
"""What each struct and each of its fields means; a field without words breaks the document."""

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}


def schemas() -> dict[str, Schema]:
    """The request schemas by name."""
    _, found = msgspec.json.schema_components(
        [Preflight, Settle, SettleBatch, Void, Extend, *runs.SHAPES],
        ref_template="#/components/schemas/{name}",
    )
    made: dict[str, Any] = found
    for name, schema in made.items():
        words = WORDS.get(name) or runs.WORDS[name]
        schema["description"] = words[""]
        if not schema["required"]:
            del schema["required"]
        for field, of in schema["properties"].items():
            schema["properties"][field] = described(of, words[field])
    _tighten(made)
    return made


def described(schema: Schema, words: str) -> Schema:
    """A field's schema with its words; a choice of null and one type is said in one word each."""
    choices = schema.get("anyOf", [])
    if len(choices) == 2 and choices[1] == {"type": "null"} and "type" in choices[0]:
        schema = {**choices[0], "type": [choices[0]["type"], "null"]}
    else:
        schema = {**schema}
    # "Null unless said" is what an optional field means anyway.
    if schema.get("default", ...) in (None, {}) or "$ref" in schema:
        schema.pop("default", None)
    return {**schema, "description": words}


def _tighten(made: dict[str, Any]) -> None:
    """Adds what the code demands beyond the types that the structs can state."""
    preflight, settle = made["Preflight"]["properties"], made["Settle"]["properties"]
    preflight["tags"]["maxProperties"] = TAGS_MAX
    for amount in (preflight["cost_usd"], settle["cost_usd"]):
        amount["pattern"] = USD_PATTERN
    del settle["outcome"]["pattern"]
    settle["outcome"]["enum"] = ["ok", "error", "cut"]
    made["SettleBatch"]["properties"]["settlements"]["items"] = ref("Settle")
    for name, field in made["Usage"]["properties"].items():
        if field["type"] == "integer":
            field |= _COUNT
        elif name in ("tool_calls", "units"):
            known = TOOL_UNITS if name == "tool_calls" else USAGE_UNITS
            field["additionalProperties"] = _COUNT
            field["description"] += f" Known: {', '.join(f'`{word}`' for word in sorted(known))}."
