"""LangGraph: a call inside a node is for the node's thread, which is its run; node and step become tags.

It is read when a call is made, from the configuration that LangGraph keeps for whatever runs inside a node, so
that it holds for clients that know nothing of LangChain as well.
"""

from __future__ import annotations

from typing import Any, NoReturn

from noburn_sdk import attribution
from noburn_sdk.attribution import NOTHING, Attribution
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.integrations.langchain.said import said_by

_on = False


def instrument() -> None:
    """Reads the configuration of nodes, and switches LangChain's integration on."""
    global _on
    if _on:
        return
    from noburn_sdk.integrations import registry

    registry.instrument("langchain")
    attribution.add_source(inside_node)
    _on = True


def uninstrument() -> None:
    """Stops reading it; LangChain's integration stays on until it is switched off."""
    global _on
    if _on:
        attribution.remove_source(inside_node)
        _on = False


def wrap(client: Any, **_: Any) -> NoReturn:
    """Raises InvalidRequestError: a graph has no client of its own."""
    message = f"is a {type(client).__qualname__}; gate graphs with noburn_sdk.instrument('langgraph')"
    raise InvalidRequestError("Cannot wrap", errors={"client": message})


def inside_node() -> Attribution:
    """Whom calls are for in the node that runs here; nothing outside of one."""
    from langchain_core.runnables.config import var_child_runnable_config

    config = var_child_runnable_config.get()
    if not config:
        return NOTHING
    chosen = config.get("configurable") or {}
    metadata = dict(config.get("metadata") or {})
    metadata.setdefault("thread_id", chosen.get("thread_id"))
    for name, value in chosen.items():
        if isinstance(name, str) and name.startswith("noburn_"):
            metadata.setdefault(name, value)
    return said_by(metadata, config.get("tags"))
