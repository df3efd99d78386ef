"""What the metadata and tags of a run say about whom its calls are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from noburn_sdk.attribution import Attribution

PREFIX = "noburn_"
_NAMES = ("customer", "user", "run", "project", "plan", "provider", "cost_usd")
_WHOLE = ("max_input_tokens", "max_output_tokens")


def said_by(metadata: Mapping[str, Any] | None, tags: Iterable[str] | None = None) -> Attribution:
    """Reads `noburn_customer`, `noburn_tags` and so on, and LangGraph's thread and node; tags as `feature=chat`.

    What is of the wrong type is left out: a framework's metadata holds whatever somebody put there.
    """
    found = metadata or {}
    said: dict[str, Any] = {}
    for name in _NAMES:
        value = found.get(PREFIX + name)
        if isinstance(value, str) and value:
            said[name] = value
    for name in _WHOLE:
        value = found.get(PREFIX + name)
        if isinstance(value, int) and not isinstance(value, bool):
            said[name] = value
    thread = found.get("thread_id")
    if "run" not in said and thread:
        said["run"] = str(thread)
    told: dict[str, str] = {}
    for tag in tags or ():
        key, sign, value = str(tag).partition("=")
        if sign and key.strip() and value.strip():
            told[key.strip()] = value.strip()
    if isinstance(found.get("langgraph_node"), str):
        told["langgraph_node"] = found["langgraph_node"]
    if isinstance(found.get("langgraph_step"), int):
        told["langgraph_step"] = str(found["langgraph_step"])
    own = found.get(PREFIX + "tags")
    if isinstance(own, Mapping):
        told |= {str(key): str(value) for key, value in own.items()}
    return Attribution(**said, tags=told)
