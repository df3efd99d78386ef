"""One call as every protocol of the double sees it, and how much the double answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from tests.doubles.provider.controls import Plan
from tests.doubles.provider.ledger import Metered

WORD = " ok"
"""One token in o200k and cl100k alike, so that an output of n words is billed exactly n tokens."""

PIECES = 10


class BadCall(ValueError):
    """A request that the provider refuses as malformed; `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for. `cap` is per choice; `details` is for the protocol alone."""

    seq: int
    model: str
    input_tokens: int
    stream: bool = False
    cap: int | None = None
    choices: int = 1
    customer: str | None = None
    details: dict[str, Any] = {}


class Part(NamedTuple):
    """Bytes of a stream, and the visible tokens in them; `piece` marks what controls count."""

    data: bytes
    tokens: int = 0
    piece: bool = False


class Wire(NamedTuple):
    """One protocol: how to read a call, answer it, stream it, refuse it, and name its usage."""

    endpoint: str
    read: Callable[[dict[str, Any], int], Call]
    answer: Callable[[Call, Plan, Metered], dict[str, Any]]
    stream: Callable[[Call, Plan, Metered], Iterator[Part]]
    failure: Callable[[int, str, str | None], dict[str, Any]]
    stream_failure: Callable[[str], bytes]
    usage: Callable[[Plan, Metered], dict[str, Any]]


def wanted_output(call: Call, plan: Plan) -> int:
    """Returns the tokens a choice would like to have, before its cap."""
    if plan.output_fraction is None:
        return plan.output_tokens
    return math.ceil(
        (call.cap if call.cap is not None else plan.uncapped_output_tokens) * plan.output_fraction
    )


def hits_cap(call: Call, plan: Plan) -> bool:
    """Says whether the cap is what ends the output."""
    return call.cap is not None and wanted_output(call, plan) >= call.cap


def meter(call: Call, plan: Plan) -> Metered:
    """Returns what a call that runs to its end is billed."""
    wanted = wanted_output(call, plan)
    each = wanted if call.cap is None else min(wanted, call.cap)
    reasoning = int(each * plan.reasoning_fraction)
    cached = int(call.input_tokens * plan.cached_fraction)
    written = min(int(call.input_tokens * plan.cache_write_fraction), call.input_tokens - cached)
    return Metered(
        input_tokens=call.input_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=int(written * plan.cache_write_1h_fraction),
        output_tokens=each * call.choices,
        reasoning_tokens=reasoning * call.choices,
        web_searches=plan.web_searches,
    )


def words(tokens: int) -> str:
    """Returns a text of exactly so many tokens."""
    return WORD * tokens


def pieces(tokens: int, plan: Plan) -> Iterator[int]:
    """Yields the sizes in tokens of a stream's pieces, at most a few hundred of them."""
    size = max(plan.chunk_tokens or math.ceil(tokens / PIECES), math.ceil(tokens / 500), 1)
    while tokens > 0:
        yield min(size, tokens)
        tokens -= size


def count_field(body: dict[str, Any], name: str, *, least: int = 1) -> int | None:
    """Returns an optional whole number of the body. Raises BadCall below `least` or for another type."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadCall(f"Invalid value for '{name}': expected an integer >= {least}.", name)
    return value


def text_field(body: dict[str, Any], name: str) -> str:
    """Returns a required text of the body. Raises BadCall when it is missing or empty."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadCall(f"Missing required parameter: '{name}'.", name)
    return value


def list_field(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns a required, non-empty list of objects. Raises BadCall otherwise."""
    value = body.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise BadCall(f"Invalid value for '{name}': expected a non-empty array of objects.", name)
    return value


encode = msgspec.json.Encoder().encode


def event(value: object, name: str | None = None) -> bytes:
    """Returns one server-sent event, named or not."""
    data = b"data: " + encode(value) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data
