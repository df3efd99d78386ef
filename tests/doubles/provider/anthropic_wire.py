"""Anthropic's Messages, plain and as events, and its token counting endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.doubles.provider import tokens
from tests.doubles.provider.calls import (
    BadCall,
    Call,
    Part,
    Wire,
    count_field,
    event,
    hits_cap,
    list_field,
    pieces,
    text_field,
    words,
)
from tests.doubles.provider.controls import Plan
from tests.doubles.provider.ledger import Metered

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def failure(status: int, message: str, param: str | None) -> dict[str, Any]:
    """Returns Anthropic's error body."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_double"}


def stream_failure(message: str) -> bytes:
    """Returns the event by which Anthropic reports a failure inside a stream."""
    return event(failure(529, message, None), "error")


def count_input(body: dict[str, Any]) -> int:
    """Returns the total input tokens of a request. Raises BadCall."""
    return tokens.anthropic(
        list_field(body, "messages"), body.get("system"), body.get("tools"), text_field(body, "model")
    )


def read(body: dict[str, Any], seq: int) -> Call:
    """Reads a Messages request. Raises BadCall, also for a missing `max_tokens`."""
    cap = count_field(body, "max_tokens")
    if cap is None:
        raise BadCall("max_tokens: Field required", "max_tokens")
    metadata = body.get("metadata")
    customer = metadata.get("user_id") if isinstance(metadata, dict) else None
    return Call(
        seq=seq,
        model=text_field(body, "model"),
        input_tokens=count_input(body),
        stream=body.get("stream") is True,
        cap=cap,
        customer=customer if isinstance(customer, str) else None,
    )


def _input_usage(metered: Metered) -> dict[str, Any]:
    return {
        # Anthropic's own input_tokens leaves out what was read from or written to the cache.
        "input_tokens": metered.input_tokens - metered.cached_tokens - metered.cache_write_tokens,
        "cache_creation_input_tokens": metered.cache_write_tokens,
        "cache_read_input_tokens": metered.cached_tokens,
    }


def usage(plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns `usage` as a whole message carries it."""
    used: dict[str, Any] = {
        **_input_usage(metered),
        "cache_creation": {
            "ephemeral_5m_input_tokens": metered.cache_write_tokens - metered.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": metered.cache_write_1h_tokens,
        },
        "output_tokens": metered.output_tokens,
        "output_tokens_details": {"thinking_tokens": metered.reasoning_tokens},
        "service_tier": plan.service_tier or "standard",
    }
    if metered.web_searches:
        used["server_tool_use"] = {"web_search_requests": metered.web_searches, "web_fetch_requests": 0}
    return used


def _message(call: Call, content: list[Any], stop: str | None, used: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"msg_double_{call.seq}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": used,
    }


def answer(call: Call, plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns a whole message."""
    text = words(metered.output_tokens - metered.reasoning_tokens)
    stop = "max_tokens" if hits_cap(call, plan) else "end_turn"
    return _message(call, [{"type": "text", "text": text}], stop, usage(plan, metered))


def stream(call: Call, plan: Plan, metered: Metered) -> Iterator[Part]:
    """Yields a message as events. The counts of `message_delta` are cumulative and lack the 5m/1h split."""

    def named(name: str, **fields: Any) -> bytes:
        return event({"type": name, **fields}, name)

    at_start = usage(plan, metered) | {"output_tokens": 1}
    del at_start["output_tokens_details"]
    yield Part(named("message_start", message=_message(call, [], None, at_start)))
    yield Part(named("content_block_start", index=0, content_block={"type": "text", "text": ""}))
    yield Part(named("ping"))
    for size in pieces(metered.output_tokens - metered.reasoning_tokens, plan):
        delta = {"type": "text_delta", "text": words(size)}
        yield Part(named("content_block_delta", index=0, delta=delta), size, piece=True)
    yield Part(named("content_block_stop", index=0))
    at_end = usage(plan, metered)
    del at_end["cache_creation"], at_end["service_tier"]
    stop = "max_tokens" if hits_cap(call, plan) else "end_turn"
    yield Part(named("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=at_end))
    yield Part(named("message_stop"))


MESSAGES = Wire("messages", read, answer, stream, failure, stream_failure, usage)
