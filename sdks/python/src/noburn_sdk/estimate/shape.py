"""What rules of policies may look at in a request, beside what it costs: what it is to write, and how many messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noburn_sdk.estimate.types import Api

STEPS_MAX = 1_000_000


def shape_of(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `output` and `steps` of a pre-flight, as far as a request says them. Never content."""
    found: dict[str, Any] = {}
    output = _output(api, body)
    if output is not None:
        found["output"] = output
    messages = body.get("input" if api == "openai.responses" else "messages")
    if isinstance(messages, list):
        found["steps"] = min(len(messages), STEPS_MAX)
    return found


def _output(api: Api, body: Mapping[str, Any]) -> str | None:
    asked: Any
    if api == "openai.chat":
        asked = body.get("response_format")
    elif api == "openai.responses":
        asked = _mapping(body.get("text")).get("format")
    elif api == "anthropic.messages":
        asked = _mapping(body.get("output_config")).get("format") or body.get("output_format")
    else:
        return None
    kind = _mapping(asked).get("type", "text")
    return {"json_schema": "schema", "json_object": "json", "text": "text"}.get(str(kind))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
