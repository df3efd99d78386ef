"""Anthropic's client, version 2: the gate is the last middleware of every client, so each attempt passes it.

Clients of Bedrock, Vertex and Foundry are those of the same package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from noburn_sdk.attribution import Attribution
from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.integrations.patching import Patches

_patches = Patches()


def _active() -> bool:
    return _patches.active


def instrument() -> None:
    """Gates every client of Anthropic's package that is made from now on."""
    if _patches.active:
        return
    from anthropic import _base_client

    try:
        _patches.add(_base_client.SyncAPIClient, "__init__", _appending)
        _patches.add(_base_client.AsyncAPIClient, "__init__", _appending)
    except BaseException:
        _patches.undo()
        raise


def uninstrument() -> None:
    """Puts Anthropic's package back as it was; clients made meanwhile are not gated any longer."""
    _patches.undo()


def _appending(before: Callable[..., None]) -> Callable[..., None]:
    @wraps(before)
    def __init__(self: Any, *args: Any, **options: Any) -> None:
        options["middleware"] = with_gate(self, options.get("middleware"), active=_active)
        before(self, *args, **options)

    return __init__


def with_gate(client: Any, middleware: Any, **options: Any) -> tuple[Any, ...]:
    """Returns the middleware of a client with the gate as the innermost, unless it is there already."""
    from noburn_sdk.integrations.anthropic.middleware import GateMiddleware, provider_of

    chosen = tuple(middleware or ())
    if any(isinstance(one, GateMiddleware) for one in chosen):
        return chosen
    return (*chosen, GateMiddleware(provider_of(client), **options))


def wrap(client: Any, **said: Any) -> Any:
    """Returns a copy of a client with the gate as its innermost middleware; connections are shared with it."""
    from noburn_sdk.integrations.anthropic.middleware import GateMiddleware, provider_of

    if not hasattr(client, "copy") or not hasattr(client, "middleware"):
        message = f"is a {type(client).__qualname__}; clients of anthropic 2 can be wrapped"
        raise InvalidRequestError("Cannot wrap", errors={"client": message})
    others = [one for one in client.middleware if not isinstance(one, GateMiddleware)]
    gate = GateMiddleware(provider_of(client), defaults=Attribution(**said))
    return client.copy(middleware=[*others, gate])
