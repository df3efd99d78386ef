"""Every provider's usage, as the clients' own types and as mappings, in noburn's names."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message, MessageDeltaUsage
from openai.types import CompletionUsage, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from noburn_sdk import InvalidRequestError, Usage
from noburn_sdk import usage as usages

CHAT: dict[str, Any] = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20, "audio_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 10, "audio_tokens": 4},
}
CHAT_READ = Usage(
    100,
    40,
    cache_read_tokens=30,
    cache_write_tokens=20,
    reasoning_tokens=10,
    audio_input_tokens=5,
    audio_output_tokens=4,
)
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5",
    "service_tier": "flex",
    "output": [{"type": "web_search_call"}, {"type": "web_search_call"}, {"type": "message"}],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 0},
        "output_tokens": 40,
        "output_tokens_details": {"reasoning_tokens": 10},
        "total_tokens": 140,
    },
}
RESPONSE_READ = Usage(
    100,
    40,
    cache_read_tokens=30,
    reasoning_tokens=10,
    tool_calls={"web_search": 2},
    service_tier="flex",
)
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-haiku-4-5",
    "usage": {
        "input_tokens": 10,
        "cache_read_input_tokens": 60,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        "output_tokens": 1,
        "service_tier": "standard",
    },
}
DELTA: dict[str, Any] = {
    "input_tokens": 10,
    "cache_read_input_tokens": 60,
    "cache_creation_input_tokens": 30,
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
}
MESSAGE_READ = Usage(
    100,
    50,
    cache_read_tokens=60,
    cache_write_tokens=30,
    cache_write_1h_tokens=10,
    reasoning_tokens=20,
    tool_calls={"web_search": 2},
    service_tier="default",
)


class TestOpenAI:
    def test_reads_chat(self) -> None:
        assert usages.from_openai_chat(CHAT) == CHAT_READ
        assert usages.from_openai_chat(CompletionUsage.model_validate(CHAT)) == CHAT_READ
        whole = ChatCompletion.model_construct(id="c", usage=CompletionUsage.model_validate(CHAT))
        assert usages.from_openai_chat(whole) == CHAT_READ

    def test_reads_responses_and_counts_tools(self) -> None:
        assert usages.from_openai_responses(RESPONSE) == RESPONSE_READ
        assert usages.from_openai_responses(Response.construct(**RESPONSE)) == RESPONSE_READ

    def test_reads_embeddings(self) -> None:
        answer = {
            "object": "list",
            "data": [],
            "model": "m",
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        }
        assert usages.from_embeddings(answer) == Usage(7)
        assert usages.from_embeddings(CreateEmbeddingResponse.model_validate(answer)) == Usage(7)


class TestAnthropic:
    def test_adds_the_cache_to_the_input(self) -> None:
        read = usages.from_anthropic(MESSAGE)
        assert (read.input_tokens, read.output_tokens, read.cache_write_1h_tokens) == (100, 1, 10)

    def test_merges_a_streams_delta_over_its_start(self) -> None:
        assert usages.from_anthropic(MESSAGE, delta=DELTA) == MESSAGE_READ
        start = Message.construct(**MESSAGE)
        delta = MessageDeltaUsage.model_validate(DELTA)
        assert usages.from_anthropic(start, delta=delta) == MESSAGE_READ


class TestNormalise:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (CHAT, CHAT_READ),
            (RESPONSE, RESPONSE_READ),
            (MESSAGE | {"usage": MESSAGE["usage"] | DELTA}, MESSAGE_READ),
            ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7)),
            ({"input_tokens": 5, "output_tokens": 6, "cache_read_tokens": 2}, Usage(5, 6, 2)),
            (Usage(1, 2), Usage(1, 2)),
        ],
    )
    def test_tells_shapes_apart(self, value: Any, expected: Usage) -> None:
        assert usages.normalise(value) == expected

    @pytest.mark.parametrize("value", [None, 5, {}, {"tokens": 3}, {"id": "c", "object": "chat.completion"}])
    def test_refuses_what_it_cannot_read(self, value: Any) -> None:
        with pytest.raises(InvalidRequestError):
            usages.normalise(value)

    def test_names_every_impossible_count(self) -> None:
        with pytest.raises(InvalidRequestError) as invalid:
            Usage(-1, 2.5, images=True)  # type: ignore[arg-type]
        assert set(invalid.value.errors) == {"input_tokens", "output_tokens", "images"}
        with pytest.raises(InvalidRequestError) as invalid:
            Usage(5, 5, cache_read_tokens=6, cache_write_1h_tokens=1, reasoning_tokens=6)
        assert set(invalid.value.errors) == {"input_tokens", "cache_write_1h_tokens", "reasoning_tokens"}
