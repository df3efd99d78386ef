"""Gating at the level of one HTTP attempt, for httpx and httpx2 alike: nothing here imports either.

What a provider's client is about to send is read and, where needed, rewritten; what comes back is read on its
way to the caller. A response that streams is given on as a new one of the same class, whose bytes pass a meter.
"""

from __future__ import annotations

import contextlib
import json
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

from noburn_sdk import attribution
from noburn_sdk.attribution import HEADER_PREFIX
from noburn_sdk.errors import NoburnError, StreamCutError, mixed
from noburn_sdk.gate.endpoints import Asked
from noburn_sdk.gate.gate import Gate
from noburn_sdk.gate.held import HeldCall
from noburn_sdk.gate.meters import Meter
from noburn_sdk.gate.passing import Passing, is_events, meter_of

PASSED = "noburn_passed"
"""A mark on a request that an outer gate has seen already."""

_CODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class Site(Protocol):
    """What a provider's integration says of its requests."""

    def find(self, request: Any) -> Asked | None:
        """Reads a request; None for one that costs nothing. Raises NoburnError for one that must not be made."""
        ...

    def error_base(self) -> type[BaseException]:
        """The class whose errors the provider's client passes on as they are."""
        ...


def is_let_by(request: Any) -> bool:
    """Says whether a request is not to be gated here."""
    return attribution.is_ungated() or bool(request.extensions.get(PASSED))


def without_headers(request: Any) -> Any:
    """Takes noburn's own headers off: they are not the provider's business."""
    for name in [name for name in request.headers if name.lower().startswith(HEADER_PREFIX)]:
        del request.headers[name]
    return request


def send(gate: Gate, site: Site, request: Any, forward: Callable[[Any], Any]) -> Any:
    """Sends one attempt through the gate. `forward` sends it; the response comes back as the caller wants it."""
    if is_let_by(request):
        return forward(without_headers(request))
    try:
        request.read()
        asked = site.find(request)
        if asked is None:
            return forward(without_headers(request))
        held = gate.admit(asked)
    except NoburnError as error:
        raise mixed(error, site.error_base()) from error.__cause__
    try:
        response = forward(rewritten(request, held))
    except BaseException as error:
        held.failed(error)
        raise
    return received(response, held, site.error_base(), asynchronous=False)


async def send_async(gate: Gate, site: Site, request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
    """Does what `send` does, awaited."""
    if is_let_by(request):
        return await forward(without_headers(request))
    try:
        await request.aread()
        asked = site.find(request)
        if asked is None:
            return await forward(without_headers(request))
        held = await gate.admit_async(asked)
    except NoburnError as error:
        raise mixed(error, site.error_base()) from error.__cause__
    try:
        response = await forward(rewritten(request, held))
    except BaseException as error:
        held.failed(error)
        raise
    return received(response, held, site.error_base(), asynchronous=True)


def rewritten(request: Any, held: HeldCall) -> Any:
    """Returns the request to send: with the admitted body, and without noburn's headers."""
    without_headers(request)
    request.extensions = {**request.extensions, PASSED: True}
    if held.body is held.asked.body and not held.asked.changed:
        return request
    headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
    content = json.dumps(held.body, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    return type(request)(
        request.method, request.url, headers=headers, content=content, extensions=request.extensions
    )


def received(response: Any, held: HeldCall, base: type[BaseException], *, asynchronous: bool) -> Any:
    """Ends the call with its response, or gives on a response that will end it."""
    if response.status_code >= 400:
        held.void()
        return response
    if response.is_closed and not _is_events(response):
        held.settle(_body(response))
        return response
    meter = meter_of(held, events=_is_events(response))
    return _given_on(response, meter, held, base, asynchronous)


def _body(response: Any) -> Any:
    try:
        return json.loads(response.content)
    except ValueError:
        return None


def _is_events(response: Any) -> bool:
    return is_events(response.headers.get("content-type", ""))


def _given_on(
    response: Any, meter: Meter, held: HeldCall, base: type[BaseException], asynchronous: bool
) -> Any:
    own: Any = type(response.stream)
    kind = _stream_class(own, asynchronous)
    source = response.aiter_bytes() if asynchronous else response.iter_bytes()
    stream = kind(_Passing(response, source, meter, held, base))
    # A stream that nobody reads to its end or closes still ends its call, once it is collected.
    weakref.finalize(stream, _abandoned, held, meter)
    made = type(response)(
        response.status_code,
        headers=[pair for pair in response.headers.raw if pair[0].decode("latin-1").lower() not in _CODED],
        stream=stream,
        request=response.request,
        extensions=response.extensions,
        history=response.history,
        default_encoding=response.default_encoding,
    )
    stream.passing.made = weakref.ref(made)
    return made


def _abandoned(held: HeldCall, meter: Meter) -> None:
    if held.open:
        held.meter_cut(meter)


class _Passing(Passing):
    """A response on its way through a meter."""

    def __init__(
        self, response: Any, source: Any, meter: Meter, held: HeldCall, base: type[BaseException]
    ) -> None:
        super().__init__(meter, held)
        self.response = response
        self.source = source
        self.base = base
        self.made: Any = None

    def too_long(self) -> NoburnError:
        """The error of a stream that is cut at its hold."""
        return mixed(StreamCutError(self.beyond()), self.base)

    def closed(self) -> None:
        """Notes what the original learned while it was read."""
        made = self.made() if self.made is not None else None
        if made is not None:
            with contextlib.suppress(RuntimeError):
                made.elapsed = self.response.elapsed


class _SyncStream:
    """Mixed into the client library's own class of streams."""

    def __init__(self, passing: _Passing) -> None:
        self.passing = passing

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        passing = self.passing
        while not passing.ended:
            try:
                data = passing.feed(next(passing.source))
            except StopIteration:
                data = passing.finish()
            except BaseException:
                passing.cut()
                raise
            if passing.is_beyond():
                self.close()
                raise passing.too_long()
            if data:
                return data
        raise StopIteration

    def close(self) -> None:
        passing = self.passing
        passing.cut()
        passing.ended = True
        passing.response.close()
        passing.closed()


class _AsyncStream:
    """The same for asyncio."""

    def __init__(self, passing: _Passing) -> None:
        self.passing = passing

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        passing = self.passing
        while not passing.ended:
            try:
                data = passing.feed(await anext(passing.source))
            except StopAsyncIteration:
                data = passing.finish()
            except BaseException:
                passing.cut()
                raise
            if passing.is_beyond():
                await self.aclose()
                raise passing.too_long()
            if data:
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        passing = self.passing
        passing.cut()
        passing.ended = True
        await passing.response.aclose()
        passing.closed()


@lru_cache(maxsize=16)
def _stream_class(kind: Any, asynchronous: bool) -> Any:
    """A stream of the library whose response this is: httpx and httpx2 accept none but their own."""
    wanted = "AsyncByteStream" if asynchronous else "SyncByteStream"
    base = next(one for one in kind.__mro__ if one.__name__ == wanted)
    mine: type = _AsyncStream if asynchronous else _SyncStream
    return type(f"Metered{wanted}", (mine, base), {})


def headers_of(request: Any) -> Mapping[str, str]:
    """The request's headers by name."""
    return {name: value for name, value in request.headers.items() if name.lower().startswith(HEADER_PREFIX)}
