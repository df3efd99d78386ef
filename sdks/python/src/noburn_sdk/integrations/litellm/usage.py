"""What LiteLLM says that a call used: OpenAI's names, with Anthropic's cache writes and searches beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noburn_sdk import usage as usages
from noburn_sdk.integrations.openai.meters import ChatMeter
from noburn_sdk.usage import Usage, read


def _count(*values: Any) -> int:
    return next((value for value in values if isinstance(value, int) and value > 0), 0)


def read_chat(value: Any) -> Usage:
    """Reads a ModelResponse or a TextCompletionResponse. Raises InvalidRequestError where it says nothing."""
    found = usages.from_openai_chat(value)
    used = read(value, "usage")
    details = read(used, "prompt_tokens_details")
    split = read(details, "cache_creation_token_details")
    written = _count(
        found.cache_write_tokens,
        read(details, "cache_creation_tokens"),
        read(used, "cache_creation_input_tokens"),
    )
    reads = _count(found.cache_read_tokens, read(used, "cache_read_input_tokens"))
    searches = _count(
        read(read(used, "server_tool_use"), "web_search_requests"), read(details, "web_search_requests")
    )
    return replace(
        found,
        # LiteLLM's prompt holds the cache as a part, of Anthropic's too; should it not, nothing is lost.
        input_tokens=max(found.input_tokens, reads + written),
        cache_read_tokens=reads,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(_count(read(split, "ephemeral_1h_input_tokens")), written),
        reasoning_tokens=min(found.reasoning_tokens, found.output_tokens),
        tool_calls={"web_search": searches} if searches else {},
    )


def read_embeddings(value: Any) -> Usage:
    """Reads an EmbeddingResponse."""
    return usages.from_embeddings(value)


class LiteLLMChatMeter(ChatMeter):
    """Reads LiteLLM's chunks, in which usage has LiteLLM's names."""

    def _note(self, value: Any) -> None:
        super()._note(value)
        if self._usage is not None and isinstance(read(read(value, "usage"), "prompt_tokens"), int):
            self._usage = read_chat(value)
