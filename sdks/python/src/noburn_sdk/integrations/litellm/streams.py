"""LiteLLM's streams, which hand out objects: what passes is read, and ends the call.

A stream stays the object that it is, since LiteLLM looks at its class; only its steps are done by a subclass.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from noburn_sdk._config import logger
from noburn_sdk.errors import NoburnError, StreamCutError
from noburn_sdk.gate.meters import EventMeter
from noburn_sdk.integrations.litellm.attempts import Running
from noburn_sdk.results import Denied
from noburn_sdk.usage import read

_STATE = "_noburn_passing"


def is_stream(answer: Any) -> bool:
    """Says whether an answer is one that is read step by step."""
    return hasattr(answer, "__next__") or hasattr(answer, "__anext__")


def metered(
    stream: Any, call: Running, inside: Callable[[], AbstractContextManager[None]], *, strips: bool
) -> Any:
    """Returns the stream, which from now on ends its call."""
    make = call.asked.endpoint.meter
    if make is None:
        call.held.finish(None)
        return stream
    meter: Any = make(call.held.model, call.held.tokens_max is not None)
    passing = _Passing(call, meter, inside, strips)
    try:
        kind: Any = type(stream)
        stream.__class__ = _kind(kind)
    except TypeError:
        # A generator, or a class in C: its class cannot be changed, so that nobody looked at it either.
        return _Outer(stream, passing)
    stream.__dict__[_STATE] = passing
    weakref.finalize(stream, passing.cut)
    return stream


class _Passing:
    """What is known of a stream under way. It must not refer to the stream, whose end it waits for."""

    def __init__(
        self,
        call: Running,
        meter: EventMeter,
        inside: Callable[[], AbstractContextManager[None]],
        strips: bool,
    ) -> None:
        self.call, self.meter, self.inside, self._strips = call, meter, inside, strips

    def reads(self, chunk: Any) -> bool:
        """Reads a chunk; says whether the caller is to see it. Raises StreamCutError beyond the hold."""
        try:
            self.meter.chunk(chunk)  # type: ignore[attr-defined]
        except Exception:
            logger.exception("a stream of %s cannot be read", self.call.asked.endpoint.name)
            return True
        most = self.call.held.tokens_max
        if most is not None and not self.meter.finished and self.meter.output_tokens > most:
            self.cut()
            raise self._too_long(most)
        return not (self._strips and _is_usage_alone(chunk))

    def ended(self, stream: Any) -> None:
        """Ends the call with the end of the stream."""
        if not self.meter.finished:
            self._built(stream)
        self.call.held.meter_ended(self.meter)

    def _built(self, stream: Any) -> None:
        """Reads the usage that the provider told and LiteLLM keeps to itself, as it does of Claude's streams."""
        chunks = getattr(stream, "chunks", None) or ()
        if not any(read(chunk, "usage") is not None for chunk in chunks):
            return
        try:
            import litellm

            self.meter.chunk(litellm.stream_chunk_builder(chunks=list(chunks)))  # type: ignore[attr-defined]
        except Exception:
            logger.exception("the usage of %s cannot be read", self.call.asked.endpoint.name)

    def failed(self, error: BaseException) -> None:
        """Ends the call with what was seen, or with why its request failed, where it was sent only now."""
        if isinstance(error, Exception) and not self.meter.model and self.call.held.open:
            self.call.failed(error)
        self.cut()

    def cut(self) -> None:
        """Ends the call with what was seen."""
        if self.call.held.open:
            self.call.held.meter_cut(self.meter)

    def refusal(self) -> NoburnError | None:
        """Why an attempt inside was not made."""
        return self.call.refusal

    def _too_long(self, most: int) -> NoburnError:
        from noburn_sdk.integrations.litellm.functions import as_litellm

        allowed = self.call.held.allowed
        denied = Denied(
            reason="call_too_large",
            estimate_usd=allowed.amount_usd if allowed is not None else None,
            detail=f"the stream was cut after {most} tokens, for which its hold pays",
        )
        return as_litellm(StreamCutError(denied))


def _is_usage_alone(chunk: Any) -> bool:
    """Says whether a chunk tells nothing but usage."""
    if read(chunk, "usage") is None:
        return False
    for choice in read(chunk, "choices") or ():
        delta = read(choice, "delta")
        if read(choice, "finish_reason") or read(choice, "text") or read(delta, "content"):
            return False
        if read(delta, "tool_calls") or read(delta, "function_call") or read(delta, "reasoning_content"):
            return False
    return True


@lru_cache(maxsize=32)
def _kind(kind: Any) -> Any:
    """A subclass of one of LiteLLM's streams whose steps pass a meter."""

    class Metered(kind):  # type: ignore[misc]
        def __iter__(self) -> Any:
            return self

        def __aiter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return _step(self, self.__dict__[_STATE], super().__next__)

        async def __anext__(self) -> Any:
            return await _step_async(self, self.__dict__[_STATE], super().__anext__)

        async def aclose(self) -> Any:
            self.__dict__[_STATE].cut()
            closes = getattr(super(), "aclose", None)
            return await closes() if closes is not None else None

        def close(self) -> Any:
            self.__dict__[_STATE].cut()
            closes = getattr(super(), "close", None)
            return closes() if closes is not None else None

    Metered.__name__, Metered.__qualname__, Metered.__module__ = (
        kind.__name__,
        kind.__qualname__,
        kind.__module__,
    )
    return Metered


class _Outer:
    """Around a stream whose own class cannot be changed."""

    def __init__(self, stream: Any, passing: _Passing) -> None:
        self._stream, self._passing = stream, passing
        weakref.finalize(self, passing.cut)

    def __iter__(self) -> Any:
        return self

    def __aiter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return _step(self._stream, self._passing, self._stream.__next__)

    async def __anext__(self) -> Any:
        return await _step_async(self._stream, self._passing, self._stream.__anext__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _step(stream: Any, passing: _Passing, forward: Callable[[], Any]) -> Any:
    while True:
        try:
            with passing.inside():
                chunk = forward()
        except StopIteration:
            passing.ended(stream)
            raise
        except BaseException as error:
            _give_up(passing, error)
            raise
        if passing.reads(chunk):
            return chunk


async def _step_async(stream: Any, passing: _Passing, forward: Callable[[], Any]) -> Any:
    while True:
        try:
            with passing.inside():
                chunk = await forward()
        except StopAsyncIteration:
            passing.ended(stream)
            raise
        except BaseException as error:
            _give_up(passing, error)
            raise
        if passing.reads(chunk):
            return chunk


def _give_up(passing: _Passing, error: BaseException) -> None:
    from noburn_sdk.integrations.litellm.functions import as_litellm

    refusal = passing.refusal()
    if refusal is not None:
        raise as_litellm(refusal) from error.__cause__
    passing.failed(error)
