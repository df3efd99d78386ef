"""What a call used, in noburn's names, and how each provider's names become them.

Here `input_tokens` is the whole input: cache reads, cache writes and audio are parts of it, as hour-long
writes are part of all writes. `output_tokens` includes reasoning and audio. Anthropic's own `input_tokens`
leave the cache out, so they are added up; OpenAI's already include it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from noburn_sdk.errors import InvalidRequestError


@dataclass(frozen=True)
class Usage:
    """Counts of one call, whole numbers from 0. Raises InvalidRequestError naming every bad one."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    images: int = 0
    tool_calls: Mapping[str, int] = field(default_factory=dict)
    service_tier: str | None = None
    units: Mapping[str, int] = field(default_factory=dict)
    """What few models charge for, by the price book's names: `input_image_tokens`, `input_characters`."""

    def __post_init__(self) -> None:
        errors: dict[str, str] = {}
        for name in _COUNTS:
            if not _is_count(getattr(self, name)):
                errors[name] = "must be a whole number of at least 0"
        for group in ("tool_calls", "units"):
            for name, count in getattr(self, group).items():
                if not _is_count(count):
                    errors[f"{group}.{name}"] = "must be a whole number of at least 0"
        if not errors:
            if self.cache_read_tokens + self.cache_write_tokens > self.input_tokens:
                errors["input_tokens"] = "must contain the cache reads and writes"
            if self.cache_write_1h_tokens > self.cache_write_tokens:
                errors["cache_write_1h_tokens"] = "must be part of cache_write_tokens"
            if self.reasoning_tokens > self.output_tokens:
                errors["reasoning_tokens"] = "must be part of output_tokens"
        if errors:
            raise InvalidRequestError("The usage is invalid", errors=errors)

    def to_wire(self) -> dict[str, Any]:
        """Returns the JSON object that a settle carries; parts that are 0 are left out."""
        wire: dict[str, Any] = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        for name in _COUNTS:
            if getattr(self, name):
                wire[name] = getattr(self, name)
        if self.tool_calls:
            wire["tool_calls"] = dict(self.tool_calls)
        if self.units:
            wire["units"] = dict(self.units)
        if self.service_tier is not None:
            wire["service_tier"] = self.service_tier
        return wire


_COUNTS = tuple(
    item.name for item in fields(Usage) if item.name not in {"tool_calls", "service_tier", "units"}
)
_NAMES = frozenset(item.name for item in fields(Usage))

_RESPONSES_TOOLS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_execution",
}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read(value: Any, name: str) -> Any:
    """Reads a field of an object or a mapping; None when there is none."""
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None)


def _count(value: Any, *names: str) -> int:
    for name in names:
        value = read(value, name)
    return value if isinstance(value, int) else 0


def _split(value: Any) -> tuple[Any, Any]:
    """Returns (usage, whole answer or None) of an answer or of its bare usage.

    Raises InvalidRequestError for an answer without usage, such as a stream that never asked for it: guessing
    zero would let the call go unpaid.
    """
    inner = read(value, "usage")
    if inner is not None:
        return inner, value
    if value is None or read(value, "object") is not None or read(value, "id") is not None:
        raise InvalidRequestError("The answer carries no usage", errors={"usage": "is missing"})
    return value, None


def _tier(used: Any, whole: Any) -> str | None:
    tier = read(whole, "service_tier") or read(used, "service_tier")
    # Anthropic's "standard" is everybody else's "default".
    return "default" if tier == "standard" else tier if isinstance(tier, str) else None


def from_openai_chat(value: Any) -> Usage:
    """Reads a chat completion, a usage chunk, or its `usage`, as object or mapping."""
    used, whole = _split(value)
    if not isinstance(read(used, "prompt_tokens"), int):
        raise InvalidRequestError("Not a chat usage", errors={"prompt_tokens": "is missing"})
    return Usage(
        input_tokens=_count(used, "prompt_tokens"),
        output_tokens=_count(used, "completion_tokens"),
        cache_read_tokens=_count(used, "prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=_count(used, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=_count(used, "completion_tokens_details", "reasoning_tokens"),
        audio_input_tokens=_count(used, "prompt_tokens_details", "audio_tokens"),
        audio_output_tokens=_count(used, "completion_tokens_details", "audio_tokens"),
        service_tier=_tier(used, whole),
    )


def from_embeddings(value: Any) -> Usage:
    """Reads an embeddings answer or its `usage`, which counts input alone."""
    used, _ = _split(value)
    if not isinstance(read(used, "prompt_tokens"), int):
        raise InvalidRequestError("Not an embeddings usage", errors={"prompt_tokens": "is missing"})
    return Usage(input_tokens=_count(used, "prompt_tokens"))


def from_openai_responses(value: Any) -> Usage:
    """Reads a response or its `usage`. Tools are counted from the response's output items, if it is whole."""
    used, whole = _split(value)
    if not isinstance(read(used, "input_tokens"), int):
        raise InvalidRequestError("Not a Responses usage", errors={"input_tokens": "is missing"})
    tools: dict[str, int] = {}
    for item in read(whole, "output") or ():
        name = _RESPONSES_TOOLS.get(read(item, "type"))
        if name is not None:
            tools[name] = tools.get(name, 0) + 1
    return Usage(
        input_tokens=_count(used, "input_tokens"),
        output_tokens=_count(used, "output_tokens"),
        cache_read_tokens=_count(used, "input_tokens_details", "cached_tokens"),
        cache_write_tokens=_count(used, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=_count(used, "output_tokens_details", "reasoning_tokens"),
        tool_calls=tools,
        service_tier=_tier(used, whole),
    )


def from_anthropic(value: Any, *, delta: Any = None) -> Usage:
    """Reads a message or its `usage`; for a stream, that of `message_start` and `delta` of `message_delta`.

    The delta's counts are cumulative and win, but it omits the split of cache writes by life, which the start
    keeps.
    """
    used, whole = _split(value)
    late = None if delta is None else _split(delta)[0]
    if not isinstance(read(used, "input_tokens"), int):
        raise InvalidRequestError("Not a Messages usage", errors={"input_tokens": "is missing"})

    def latest(*names: str) -> int:
        for source in (late, used):
            found: Any = source
            for name in names:
                found = read(found, name)
            if isinstance(found, int):
                return found
        return 0

    reads, written = latest("cache_read_input_tokens"), latest("cache_creation_input_tokens")
    searches = latest("server_tool_use", "web_search_requests")
    return Usage(
        input_tokens=latest("input_tokens") + reads + written,
        output_tokens=latest("output_tokens"),
        cache_read_tokens=reads,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(latest("cache_creation", "ephemeral_1h_input_tokens"), written),
        reasoning_tokens=latest("output_tokens_details", "thinking_tokens"),
        tool_calls={"web_search": searches} if searches else {},
        service_tier=_tier(used, whole),
    )


def normalise(value: Any) -> Usage:
    """Reads any of the above by its shape, and noburn's own form as Usage or mapping.

    Raises InvalidRequestError for a shape that is none of them.
    """
    if isinstance(value, Usage):
        return value
    if isinstance(value, Mapping) and value and set(value) <= _NAMES:
        return Usage(**value)
    used, _ = _split(value)
    if isinstance(read(used, "prompt_tokens"), int):
        return from_openai_chat(value)
    if isinstance(read(used, "input_tokens"), int):
        details = read(used, "input_tokens_details")
        return from_anthropic(value) if details is None else from_openai_responses(value)
    raise InvalidRequestError(
        "Unknown kind of usage", errors={"usage": f"cannot read a {type(value).__name__}"}
    )
