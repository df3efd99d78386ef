"""Upper bounds of a call's input in tokens, counted in this process: prompts never leave it.

OpenAI's models are counted exactly by their public ranks, with the chat framing on top; Claude by the bound
that was measured for its generation. What is unknown makes the bound larger: a model without known ranks, and
any model where the extra `noburn_sdk[tokens]` is missing, counts as many tokens as UTF-8 bytes, which no
byte-level tokenizer exceeds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from noburn_sdk import _ranks

MESSAGE_FRAME = 3
NAME_FRAME = 1
CHAT_FRAME = 3
ANTHROPIC_FRAME = 12
ANTHROPIC_TURN_FRAME = 5
IMAGE_TOKENS_MAX = 15_000

_CLAUDE_VERSION = re.compile(r"-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})


def count_text(text: str, model: str) -> int:
    """Returns the tokens of a text: exact for OpenAI's models, else an upper bound."""
    return _ranks.count(text, _ranks.encoding_for(model))


def count_chat(messages: Iterable[Mapping[str, Any]], model: str) -> int:
    """Returns the input tokens of a chat: 3 a message and its role, 1 beside a name, 3 to prime the answer.

    Exact for text messages to OpenAI's models; an image counts 15,000, tool calls count their bytes. Raises
    ValueError for files and audio, whose tokens the request does not tell: pass `input_tokens` yourself.
    """
    encoding = _ranks.encoding_for(model)
    total = CHAT_FRAME
    for message in messages:
        total += MESSAGE_FRAME
        for name, value in message.items():
            if name == "content":
                total += _content(value, encoding)
            elif name == "role":
                total += _ranks.count(str(value), encoding)
            elif name == "name":
                total += NAME_FRAME + _ranks.count(str(value), encoding)
            elif value is not None:
                total += _json_bytes(value)
    return total


def bound_anthropic(messages: Iterable[Mapping[str, Any]], model: str, *, system: Any = None) -> int:
    """Returns a bound of what Claude bills as input for these messages.

    cl100k times 1.35 up to Claude 4.6 and times 1.85 later (and for a name without a version), plus 12, plus
    5 for every message after the first. Raises ValueError as `count_chat` does.
    """
    encoding = "cl100k_base"
    tokens = _content(system, encoding)
    frame = ANTHROPIC_FRAME - ANTHROPIC_TURN_FRAME
    for message in messages:
        tokens += _content(message.get("content"), encoding)
        frame += ANTHROPIC_TURN_FRAME
    percent = 135 if _is_claude_to_4_6(model) else 185
    return (tokens * percent + 99) // 100 + max(frame, ANTHROPIC_FRAME)


def _is_claude_to_4_6(model: str) -> bool:
    found = _CLAUDE_VERSION.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) <= (4, 6)


def _json_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))


def _content(value: Any, encoding: str | None) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return _ranks.count(value, encoding)
    total = 0
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _TEXT_PARTS:
            total += _ranks.count(str(part.get("text") or ""), encoding)
        elif kind in _IMAGE_PARTS:
            total += IMAGE_TOKENS_MAX
        elif kind == "tool_result":
            total += _content(part.get("content"), encoding)
        elif kind in {"tool_use", "tool_call", "thinking", "redacted_thinking", "refusal"}:
            total += _json_bytes(part)
        else:
            raise ValueError(
                f"the request does not tell the tokens of a {kind!r} part; pass input_tokens yourself"
            )
    return total
