"""How many tokens the double bills for what it received.

OpenAI models: exact, by their public ranks (o200k or cl100k), with the chat framing of OpenAI's cookbook: 3 a
message, the role, 1 more beside a name, 3 to prime the answer. Claude has no public tokenizer, so the double
bills a fixed multiple of cl100k that stays below the bound measured for its generation (1.35 up to 4.6, 1.85
later, plus a frame of 12).

Kept apart from the SDK's estimator on purpose: a double that counted with the code under test would agree
with every mistake in it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Protocol, cast

import msgspec

_O200K = re.compile(
    r"^(?:ft:)?(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-5|gpt-oss|o1|o3|o4|codex|computer-use)"
)
_CL100K = re.compile(r"^(?:ft:)?(?:gpt-4|gpt-3\.5|gpt-35|text-embedding-)")
_CLAUDE_VERSION = re.compile(r"-(\d{1,2})(?:[-.](\d{1,2}))?(?![\d])")

IMAGE_TOKENS = 765
"""One image of 512 to 1,024 pixels a side at full detail, by OpenAI's formula: 85 + 4 * 170."""

ANTHROPIC_FRAME = 10
CHAT_FRAME = 3
MESSAGE_FRAME = 3


class Tokenizer(Protocol):
    """What the double uses of the Rust tokenizer."""

    def count(self, text: str) -> int: ...


def _load() -> tuple[Tokenizer, Tokenizer]:
    with warnings.catch_warnings():
        # The package opens its rank files by an importlib call that Python 3.11 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import _bindings
    load = _bindings.tokenizer_for_encoding
    return cast(Tokenizer, load("o200k_base")), cast(Tokenizer, load("cl100k_base"))


_o200k, _cl100k = _load()


def tokenizer_for(model: str) -> Tokenizer:
    """Returns the tokenizer a model is billed by: cl100k for older OpenAI models and Claude, else o200k."""
    if _O200K.match(model):
        return _o200k
    if _CL100K.match(model) or model.startswith("claude"):
        return _cl100k
    return _o200k


def text(value: str, tokenizer: Tokenizer) -> int:
    """Returns the exact tokens of a text; a lone surrogate counts as the replacement character."""
    try:
        return tokenizer.count(value)
    except UnicodeEncodeError:
        return tokenizer.count(value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def as_json(value: object, tokenizer: Tokenizer) -> int:
    """Returns the tokens of a value written as compact JSON: tool schemas, tool calls, unknown parts."""
    return tokenizer.count(msgspec.json.encode(value).decode())


def content(value: object, tokenizer: Tokenizer) -> int:
    """Returns the tokens of a message's content: a text, or a list of parts of either provider's kinds."""
    if value is None:
        return 0
    if isinstance(value, str):
        return text(value, tokenizer)
    if not isinstance(value, list):
        return as_json(value, tokenizer)
    total = 0
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in {"text", "input_text", "output_text"}:
            total += text(str(part.get("text", "")), tokenizer)
        elif kind in {"image", "image_url", "input_image"}:
            total += IMAGE_TOKENS
        elif kind == "tool_result":
            total += content(part.get("content"), tokenizer)
        else:
            total += as_json(part, tokenizer)
    return total


def chat(messages: list[dict[str, Any]], tools: object, model: str) -> int:
    """Returns what Chat Completions and Responses bill as input for these messages and tools."""
    tokenizer = tokenizer_for(model)
    total = CHAT_FRAME
    for message in messages:
        total += MESSAGE_FRAME + text(str(message.get("role", "")), tokenizer)
        total += content(message.get("content"), tokenizer)
        name = message.get("name")
        if isinstance(name, str):
            total += 1 + text(name, tokenizer)
        for extra in ("tool_calls", "tool_call_id", "arguments", "output"):
            if message.get(extra) is not None:
                total += as_json(message[extra], tokenizer)
    if tools:
        total += as_json(tools, tokenizer)
    return total


def anthropic(messages: list[dict[str, Any]], system: object, tools: object, model: str) -> int:
    """Returns what Messages bills as its total input, cached tokens included."""
    base = content(system, _cl100k) + sum(content(message.get("content"), _cl100k) for message in messages)
    if tools:
        base += as_json(tools, _cl100k)
    numerator, denominator = (5, 4) if _is_older_claude(model) else (17, 10)
    return base * numerator // denominator + ANTHROPIC_FRAME


def _is_older_claude(model: str) -> bool:
    found = _CLAUDE_VERSION.search(model)
    if found is None:
        return False
    return (int(found[1]), int(found[2] or 0)) <= (4, 6)
