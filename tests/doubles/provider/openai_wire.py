"""OpenAI's Chat Completions and Embeddings, and the error shape that Responses shares."""

from __future__ import annotations

import base64
import struct
import time
import zlib
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

EMBEDDING_INPUTS_MAX = 2_048
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def failure(status: int, message: str, param: str | None) -> dict[str, Any]:
    """Returns OpenAI's error body."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def stream_failure(message: str) -> bytes:
    """Returns the event by which OpenAI reports a failure inside a stream."""
    return event(failure(500, message, None))


def end_user(body: dict[str, Any]) -> str | None:
    """Returns whom the request names as its end user, if it does."""
    for name in ("safety_identifier", "user"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return None


def read_chat(body: dict[str, Any], seq: int) -> Call:
    """Reads a Chat Completions request. Raises BadCall."""
    model = text_field(body, "model")
    messages = list_field(body, "messages")
    options = body.get("stream_options")
    cap = count_field(body, "max_completion_tokens")
    return Call(
        seq=seq,
        model=model,
        input_tokens=tokens.chat(messages, body.get("tools"), model),
        stream=body.get("stream") is True,
        cap=cap if cap is not None else count_field(body, "max_tokens"),
        choices=count_field(body, "n") or 1,
        customer=end_user(body),
        details={"include_usage": isinstance(options, dict) and options.get("include_usage") is True},
    )


def chat_usage(plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns `usage` as Chat Completions names it."""
    return {
        "prompt_tokens": metered.input_tokens,
        "completion_tokens": metered.output_tokens,
        "total_tokens": metered.input_tokens + metered.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": metered.cached_tokens,
            "cache_write_tokens": metered.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": metered.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _visible(call: Call, metered: Metered) -> int:
    return (metered.output_tokens - metered.reasoning_tokens) // call.choices


def answer_chat(call: Call, plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns a whole chat completion."""
    text = words(_visible(call, metered))
    finish = "length" if hits_cap(call, plan) else "stop"
    return {
        "id": f"chatcmpl-double-{call.seq}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "service_tier": plan.service_tier or "default",
        "system_fingerprint": "fp_double",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": finish,
            }
            for index in range(call.choices)
        ],
        "usage": chat_usage(plan, metered),
    }


def stream_chat(call: Call, plan: Plan, metered: Metered) -> Iterator[Part]:
    """Yields a chat completion as chunks; usage comes in a last chunk without choices, when asked for."""
    base = {
        "id": f"chatcmpl-double-{call.seq}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.model,
        "service_tier": plan.service_tier or "default",
        "system_fingerprint": "fp_double",
    }
    if call.details["include_usage"]:
        base["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event(base | {"choices": [choice]})

    finish = "length" if hits_cap(call, plan) else "stop"
    for index in range(call.choices):
        yield Part(chunk(index, {"role": "assistant", "content": "", "refusal": None}))
        for size in pieces(_visible(call, metered), plan):
            yield Part(chunk(index, {"content": words(size)}), size, piece=True)
        yield Part(chunk(index, {}, finish))
    if call.details["include_usage"]:
        yield Part(event(base | {"choices": [], "usage": chat_usage(plan, metered)}))
    yield Part(b"data: [DONE]\n\n")


def read_embeddings(body: dict[str, Any], seq: int) -> Call:
    """Reads an Embeddings request: a text, texts, tokens or lists of tokens. Raises BadCall."""
    model = text_field(body, "model")
    value = body.get("input")
    inputs: list[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    if inputs and all(isinstance(item, int) for item in inputs):
        inputs = [inputs]
    if not 0 < len(inputs) <= EMBEDDING_INPUTS_MAX or not all(isinstance(i, str | list) for i in inputs):
        raise BadCall(f"'input' must be a text or an array of 1 to {EMBEDDING_INPUTS_MAX} items.", "input")
    tokenizer = tokens.tokenizer_for(model)
    return Call(
        seq=seq,
        model=model,
        input_tokens=sum(tokens.text(i, tokenizer) if isinstance(i, str) else len(i) for i in inputs),
        cap=0,
        customer=end_user(body),
        details={
            "hashes": [zlib.crc32(repr(item).encode("utf-8", "replace")) for item in inputs],
            "dimensions": min(count_field(body, "dimensions") or 1_536, 3_072),
            "base64": body.get("encoding_format") == "base64",
        },
    )


def embeddings_usage(plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns `usage` as Embeddings names it."""
    return {"prompt_tokens": metered.input_tokens, "total_tokens": metered.input_tokens}


def answer_embeddings(call: Call, plan: Plan, metered: Metered) -> dict[str, Any]:
    """Returns one unit vector an input, along an axis that the input's hash picks."""
    dimensions: int = call.details["dimensions"]
    data = []
    for index, digest in enumerate(call.details["hashes"]):
        vector = [0.0] * dimensions
        vector[digest % dimensions] = 1.0
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append(
            {"object": "embedding", "index": index, "embedding": packed if call.details["base64"] else vector}
        )
    return {"object": "list", "data": data, "model": call.model, "usage": embeddings_usage(plan, metered)}


def stream_embeddings(call: Call, plan: Plan, metered: Metered) -> Iterator[Part]:
    """Embeddings never stream; a read call says so."""
    raise AssertionError("an embeddings call is never read as a stream")


CHAT = Wire("chat", read_chat, answer_chat, stream_chat, failure, stream_failure, chat_usage)
EMBEDDINGS = Wire(
    "embeddings",
    read_embeddings,
    answer_embeddings,
    stream_embeddings,
    failure,
    stream_failure,
    embeddings_usage,
)
