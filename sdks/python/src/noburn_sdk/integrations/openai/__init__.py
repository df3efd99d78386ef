"""OpenAI's client, versions 2 and 3: every attempt that its clients send passes the gate."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from noburn_sdk import _default, attribution
from noburn_sdk.attribution import Attribution
from noburn_sdk.errors import InvalidRequestError, NoburnError, UnboundedError, mixed
from noburn_sdk.gate import Gate, http
from noburn_sdk.integrations.openai.endpoints import REALTIME
from noburn_sdk.integrations.openai.site import OpenAISite
from noburn_sdk.integrations.patching import Patches

_patches = Patches()
_SOCKETS = (
    ("openai.resources.realtime.realtime", ("Realtime", "AsyncRealtime")),
    ("openai.resources.beta.realtime.realtime", ("Realtime", "AsyncRealtime")),
    ("openai.resources.responses.responses", ("Responses", "AsyncResponses")),
    ("openai.resources.beta.responses.responses", ("Responses", "AsyncResponses")),
)


def instrument() -> None:
    """Gates every client of OpenAI's package, made already or later."""
    if _patches.active:
        return
    import openai

    site = OpenAISite()
    try:
        _patches.add(openai.OpenAI, "_send_request", lambda before: gated(before, site))
        _patches.add(openai.AsyncOpenAI, "_send_request", lambda before: gated_async(before, site))
        for module, names in _SOCKETS:
            for name in names:
                _patches.add_if_there(_class(module, name), "connect", _barred)
    except BaseException:
        _patches.undo()
        raise


def uninstrument() -> None:
    """Puts OpenAI's package back as it was."""
    _patches.undo()


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _gate(site: http.Site) -> Gate:
    try:
        return _default.gate()
    except NoburnError as error:
        # No key: as an error of OpenAI's own, since any other would be taken for a lost connection.
        raise mixed(error, site.error_base()) from error.__cause__


def gated(before: Callable[..., Any], site: http.Site) -> Callable[..., Any]:
    """Returns `_send_request` with the gate before it."""

    @wraps(before)
    def _send_request(self: Any, request: Any, **options: Any) -> Any:
        return http.send(_gate(site), site, request, lambda made: before(self, made, **options))

    return _send_request


def gated_async(before: Callable[..., Awaitable[Any]], site: http.Site) -> Callable[..., Awaitable[Any]]:
    """Returns the asynchronous `_send_request` with the gate before it."""

    @wraps(before)
    async def _send_request(self: Any, request: Any, **options: Any) -> Any:
        return await http.send_async(_gate(site), site, request, lambda made: before(self, made, **options))

    return _send_request


def _barred(before: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(before)
    def connect(self: Any, *args: Any, **options: Any) -> Any:
        if not attribution.is_ungated():
            from openai import OpenAIError

            message = f"noburn cannot gate this: {REALTIME.why}. Hold its cost yourself with "
            message += "noburn_sdk.Noburn().call(…, cost_usd=…), inside noburn_sdk.ungated()"
            raise mixed(UnboundedError(message), OpenAIError)
        return before(self, *args, **options)

    return connect


def wrap(client: Any, **said: Any) -> Any:
    """Returns a copy of a client whose HTTP client gates what it sends; connections are shared with it."""
    site = OpenAISite(Attribution(**said))
    if not hasattr(client, "copy") or not hasattr(client, "_client"):
        message = f"is a {type(client).__qualname__}, not a client"
        raise InvalidRequestError("Cannot wrap", errors={"client": message})
    return client.copy(http_client=gated_client(client._client, site))


def gated_client(inner: Any, site: http.Site) -> Any:
    """Returns an HTTP client with the state of another, of httpx or httpx2, that gates what it sends.

    A transport would see compressed bytes, and set proxies of the environment aside; this sees what callers see.
    """
    kind = type(inner)

    class Gated(kind):  # type: ignore[misc, valid-type]
        def __del__(self) -> None:
            """Closes nothing: the connections are the original's, which this one keeps alive."""

    if hasattr(kind, "aclose"):

        async def send_async(self: Any, request: Any, **options: Any) -> Any:
            forward = super(Gated, self).send
            return await http.send_async(_gate(site), site, request, lambda made: forward(made, **options))

        Gated.send = send_async
    else:

        def send(self: Any, request: Any, **options: Any) -> Any:
            forward = super(Gated, self).send
            return http.send(_gate(site), site, request, lambda made: forward(made, **options))

        Gated.send = send
    Gated.__name__, Gated.__qualname__ = kind.__name__, kind.__qualname__
    made = object.__new__(Gated)
    made.__dict__ = inner.__dict__
    made.__dict__.setdefault("_noburn_original", inner)
    return made
