"""One call of a LiteLLM function that was admitted, and the attempts that it makes by itself.

LiteLLM hands `max_retries` to OpenAI's client, and its own transport sends a second time after some failures:
each of those is billed, so each gets a hold of its own. All of them pass httpx, where a repeated POST to an
address is such an attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from noburn_sdk import _calls, _default
from noburn_sdk.errors import NoburnError, mixed
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.held import HeldCall

_ADDRESSES_MAX = 32
_CHAIN_MAX = 16
_TRANSPORTS = frozenset({"aiohttp", "boto3", "botocore", "google", "grpc", "requests", "socket", "urllib3"})


class Running:
    """An admitted call: its hold, and how its requests ended so far."""

    def __init__(self, asked: Asked, held: HeldCall) -> None:
        self.asked = asked
        self.held = held
        self.refusal: NoburnError | None = None
        """Why an attempt was not made."""
        self.answering = False
        """Whether the answer is there or streaming, so that other addresses are not the provider's."""
        self._ends: dict[str, int | BaseException | None] = {}
        self._last: str | None = None

    def begins(self, url: str) -> bool:
        """Notes that a POST is about to be sent; says whether it needs another hold."""
        if self.answering and self._ends and url not in self._ends:
            return False
        again = url in self._ends
        if again:
            self._end(self._ends[url])
        if len(self._ends) < _ADDRESSES_MAX or again:
            self._ends[url] = None
            self._last = url
        return again

    def ended(self, url: str, how: int | BaseException) -> None:
        """Notes a POST's status, or the error of its transport."""
        if url in self._ends:
            self._ends[url] = how

    def failed(self, error: BaseException) -> None:
        """Ends the hold of a call that raised."""
        if self._last is not None:
            self._end(self._ends.get(self._last), error)
        elif _of_a_transport(error):
            # Sent by something else than httpx, such as Amazon's own client.
            self.held.finish(None, outcome="cut")
        else:
            # Nothing was sent: a model that nobody knows, a missing key.
            self.held.void()

    def _end(self, how: int | BaseException | None, error: BaseException | None = None) -> None:
        if isinstance(how, BaseException):
            self.held.failed(how)
        elif (isinstance(how, int) and how >= 400) or (
            error is not None and how is None and _calls.never_billed(error)
        ):
            self.held.void()
        else:
            # The provider answered, or may have: what it billed is not known.
            self.held.finish(None, outcome="cut")

    def refused(self, error: NoburnError) -> NoburnError:
        """Notes that an attempt may not be made, as an error that OpenAI's client lets through."""
        self.refusal = error
        try:
            from openai import OpenAIError
        except ImportError:
            return error
        return mixed(error, OpenAIError)


def _of_a_transport(error: BaseException) -> bool:
    found: BaseException | None = error
    for _ in range(_CHAIN_MAX):
        if found is None:
            return False
        if type(found).__module__.partition(".")[0] in _TRANSPORTS:
            return True
        found = found.__cause__ or found.__context__
    return False


running: ContextVar[Running | None] = ContextVar("noburn_litellm", default=None)
"""The admitted call that this code is inside of."""


def _url_of(request: Any) -> str | None:
    return str(request.url) if request.method == "POST" else None


def gated_httpx_sync(before: Callable[..., Any]) -> Callable[..., Any]:
    """Returns httpx's `send` that tells an admitted call of its attempts."""

    @wraps(before)
    def send(self: Any, request: Any, **options: Any) -> Any:
        call = running.get()
        url = _url_of(request) if call is not None else None
        if call is None or url is None:
            return before(self, request, **options)
        if call.begins(url):
            token = running.set(None)  # Asking noburn passes httpx, too, and is no attempt.
            try:
                call.held = _default.gate().admit(call.asked)
            except NoburnError as error:
                raise call.refused(error) from error.__cause__
            finally:
                running.reset(token)
        try:
            response = before(self, request, **options)
        except BaseException as error:
            call.ended(url, error)
            raise
        call.ended(url, response.status_code)
        return response

    return send


def gated_httpx_async(before: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The same for its asynchronous client."""

    @wraps(before)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        call = running.get()
        url = _url_of(request) if call is not None else None
        if call is None or url is None:
            return await before(self, request, **options)
        if call.begins(url):
            token = running.set(None)
            try:
                call.held = await _default.gate().admit_async(call.asked)
            except NoburnError as error:
                raise call.refused(error) from error.__cause__
            finally:
                running.reset(token)
        try:
            response = await before(self, request, **options)
        except BaseException as error:
            call.ended(url, error)
            raise
        call.ended(url, response.status_code)
        return response

    return send
