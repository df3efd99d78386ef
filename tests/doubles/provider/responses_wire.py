"""OpenAI's Responses, plain and as events."""

from __future__ import annotations

import time
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
    pieces,
    text_field,
    words,
)
from tests.doubles.provider.controls import Plan
from tests.doubles.provider.ledger import Metered
from tests.doubles.provider.openai_wire import end_user, failure


def read(body: dict[str, Any], seq: int) -> Call:
    """Reads a Responses request. Raises BadCall."""
    model = text_field(body, "model")
    value = body.get("input")
    if isinstance(value, str) and value:
        items: list[dict[str, Any]] = [{"role": "user", "content": value}]
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        items = list(value)
    else:
        raise BadCall("Missing required parameter: 'input'.", "input")
    if isinstance(body.get("instructions"), str):
        items.insert(0, {"role": "developer", "content": body["instructions"]})
    return Call(
        seq=seq,
        model=model,
        input_tokens=tokens.chat(items, body.get("tools"), model),
        stream=body.get("stream") is True,
        cap=count_field(body, "max_output_tokens"),
        customer=end_user(body),
        details={
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
        },
    )


def usage(plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns `usage` as Responses names it."""
    return {
        "input_tokens": metered.input_tokens,
        "input_tokens_details": {
            "cached_tokens": metered.cached_tokens,
            "cache_write_tokens": metered.cache_write_tokens,
        },
        "output_tokens": metered.output_tokens,
        "output_tokens_details": {"reasoning_tokens": metered.reasoning_tokens},
        "total_tokens": metered.input_tokens + metered.output_tokens,
    }


def _message(call: Call, text: str | None, status: str) -> dict[str, Any]:
    parts = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {
        "id": f"msg_double_{call.seq}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": parts,
    }


def _response(
    call: Call, plan: Plan, status: str, output: list[dict[str, Any]], used: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": f"resp_double_{call.seq}",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": call.details["instructions"],
        "max_output_tokens": call.details["max_output_tokens"],
        "metadata": {},
        "model": call.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": plan.service_tier or "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": used,
        "user": None,
    }


def _searches(call: Call, plan: Plan) -> list[dict[str, Any]]:
    return [
        {
            "id": f"ws_double_{call.seq}_{index}",
            "type": "web_search_call",
            "status": "completed",
            "action": {"type": "search", "query": "double"},
        }
        for index in range(plan.web_searches)
    ]


def _final(call: Call, plan: Plan, metered: Metered) -> dict[str, Any]:
    status = "incomplete" if hits_cap(call, plan) else "completed"
    text = words(metered.output_tokens - metered.reasoning_tokens)
    output = [*_searches(call, plan), _message(call, text, status)]
    return _response(call, plan, status, output, usage(plan, metered))


def stream(call: Call, plan: Plan, metered: Metered) -> Iterator[Part]:
    """Yields a response as numbered events, ending with `response.completed` or `response.incomplete`."""
    number = -1

    def numbered(name: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": name, "sequence_number": number, **fields}, name)

    started = _response(call, plan, "in_progress", [], None)
    yield Part(numbered("response.created", response=started))
    yield Part(numbered("response.in_progress", response=started))
    index = 0
    for index, search in enumerate(_searches(call, plan), start=1):
        yield Part(numbered("response.output_item.added", output_index=index - 1, item=search))
        yield Part(numbered("response.output_item.done", output_index=index - 1, item=search))
    place = {"item_id": f"msg_double_{call.seq}", "output_index": index, "content_index": 0}
    item = _message(call, None, "in_progress")
    yield Part(numbered("response.output_item.added", output_index=index, item=item))
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield Part(numbered("response.content_part.added", **place, part=empty))
    visible = metered.output_tokens - metered.reasoning_tokens
    for size in pieces(visible, plan):
        delta = numbered("response.output_text.delta", **place, delta=words(size), logprobs=[])
        yield Part(delta, size, piece=True)
    final = _final(call, plan, metered)
    text = words(visible)
    yield Part(numbered("response.output_text.done", **place, text=text, logprobs=[]))
    yield Part(numbered("response.content_part.done", **place, part=empty | {"text": text}))
    yield Part(numbered("response.output_item.done", output_index=index, item=final["output"][-1]))
    yield Part(numbered(f"response.{final['status']}", response=final))


def stream_failure(message: str) -> bytes:
    """Returns the event by which Responses reports a failure inside a stream."""
    fields = {
        "type": "error",
        "sequence_number": 0,
        "code": "server_error",
        "message": message,
        "param": None,
    }
    return event(fields, "error")


RESPONSES = Wire("responses", read, _final, stream, failure, stream_failure, usage)
