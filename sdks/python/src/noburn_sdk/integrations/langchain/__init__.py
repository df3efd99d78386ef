"""LangChain: models call through OpenAI's and Anthropic's clients, which are gated; whom for is read here.

A handler that every run gets tells the gate what a run's metadata and tags say. Refusals are not its business:
an exception of a handler stops nothing, one of the client stops the call.
"""

from __future__ import annotations

import importlib.util
from contextvars import ContextVar
from typing import Any, NoReturn

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.integrations.langchain.handler import AttributionHandler

PROVIDERS = ("openai", "anthropic")
"""The integrations that gate what LangChain's models send."""

_hook: tuple[Any, ...] | None = None


def instrument() -> None:
    """Gives every run the handler, and gates the clients that models call through."""
    global _hook
    if _hook is not None:
        return
    from langchain_core.tracers import context

    from noburn_sdk.integrations import registry

    # A variable whose default is the handler has it in every thread and task.
    handler = AttributionHandler()
    variable: ContextVar[Any] = ContextVar("noburn_langchain", default=handler)
    context.register_configure_hook(variable, inheritable=True)
    _hook = context._configure_hooks[-1]
    present = [name for name in PROVIDERS if importlib.util.find_spec(name) is not None]
    if present:
        registry.instrument(*present)


def uninstrument() -> None:
    """Takes the handler back; the clients stay gated until their own integrations are switched off."""
    global _hook
    if _hook is None:
        return
    from langchain_core.tracers import context

    context._configure_hooks.remove(_hook)
    _hook = None


def wrap(client: Any, **_: Any) -> NoReturn:
    """Raises InvalidRequestError: a model's client is wrapped, not the model."""
    message = (
        f"is a {type(client).__qualname__}; gate LangChain's models with noburn_sdk.instrument('langchain')"
    )
    raise InvalidRequestError("Cannot wrap", errors={"client": message})
