"""The gate as Anthropic's own kind of middleware: once per HTTP attempt, before anything is signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from anthropic import AnthropicError, Middleware

from noburn_sdk import _default, attribution
from noburn_sdk.attribution import HEADER_PREFIX, Attribution
from noburn_sdk.errors import NoburnError, mixed
from noburn_sdk.gate import Asked, HeldCall
from noburn_sdk.gate.http import received
from noburn_sdk.integrations.anthropic.endpoints import asked_for

_PROVIDERS = (("Bedrock", "aws"), ("Vertex", "google"), ("AWS", "aws"), ("Foundry", "azure"))


def provider_of(client: Any) -> str:
    """Returns whom a client calls, by the price book's names."""
    for kind in type(client).__mro__:
        for name, provider in _PROVIDERS:
            if name in kind.__name__:
                return provider
    return "anthropic"


class GateMiddleware(Middleware):
    """Asks about each attempt before it is made and ends its hold with the answer.

    `active` says whether it does anything now: one that was put into clients by `instrument()` stays there.
    """

    def __init__(
        self,
        provider: str,
        *,
        defaults: Attribution | None = None,
        active: Callable[[], bool] = lambda: True,
    ) -> None:
        self._provider = provider
        self._defaults = defaults or Attribution()
        self._active = active

    def handle(self, request: Any, call_next: Callable[[Any], Any]) -> Any:
        """Gates an attempt of a synchronous client."""
        if self._passes():
            return call_next(_without_headers(request))
        try:
            asked = self._find(request)
            if asked is None:
                return call_next(_without_headers(request))
            held = _default.gate().admit(asked)
        except NoburnError as error:
            raise mixed(error, AnthropicError) from error.__cause__
        try:
            answer = call_next(_rewritten(request, held))
        except BaseException as error:
            held.failed(error)
            raise
        return _read(answer, held, asynchronous=False)

    async def handle_async(self, request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Gates an attempt of an asynchronous client."""
        if self._passes():
            return await call_next(_without_headers(request))
        try:
            asked = self._find(request)
            if asked is None:
                return await call_next(_without_headers(request))
            held = await _default.gate().admit_async(asked)
        except NoburnError as error:
            raise mixed(error, AnthropicError) from error.__cause__
        try:
            answer = await call_next(_rewritten(request, held))
        except BaseException as error:
            held.failed(error)
            raise
        return _read(answer, held, asynchronous=True)

    def _passes(self) -> bool:
        return not self._active() or attribution.is_ungated()

    def _find(self, request: Any) -> Asked | None:
        if request.method.lower() != "post":
            return None
        return asked_for(
            request.url,
            request.json if isinstance(request.json, Mapping) else {},
            provider=self._provider,
            said=attribution.from_headers(_own_headers(request)),
            framework=self._defaults,
        )


def _own_headers(request: Any) -> dict[str, str]:
    return {
        name: value
        for name, value in request.headers.items()
        if name.lower().startswith(HEADER_PREFIX) and isinstance(value, str)
    }


def _without_headers(request: Any, **changes: Any) -> Any:
    """Returns the request without noburn's own headers, which are not the provider's business."""
    own = _own_headers(request)
    if own:
        changes["headers"] = {name: value for name, value in request.headers.items() if name not in own}
    return request.copy(**changes) if changes else request


def _rewritten(request: Any, held: HeldCall) -> Any:
    if held.body is held.asked.body:
        return _without_headers(request)
    return _without_headers(request, body=dict(held.body))


def _read(answer: Any, held: HeldCall, *, asynchronous: bool) -> Any:
    response = getattr(answer, "http_response", None)
    if response is None:
        # Another middleware answered with a value of its own.
        held.settle(answer)
        return answer
    answer.http_response = received(response, held, AnthropicError, asynchronous=asynchronous)
    return answer
