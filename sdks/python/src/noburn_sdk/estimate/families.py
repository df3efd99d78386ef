"""Families of models: whose ranks count their text, how their chats are framed, how much they can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from noburn_sdk._ranks import bare, encoding_for

Frame: TypeAlias = Literal["published", "channels", "open", "claude", "gemini", "other"]

CLAUDE_TO_4_6_PERCENT = 135
CLAUDE_PERCENT = 185
"""cl100k times this bounded Claude in every case of 89 languages; the tokenizer changed with 4.7."""

CONTEXT_MAX = 10_000_000
"""The longest context that a model is sold with; assumed for a model of which nothing is known."""

_CLAUDE_VERSION = re.compile(r"-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_PUBLISHED = re.compile(r"(?:chatgpt-4o|gpt-4o|gpt-4\.1|gpt-4\.5|gpt-4(?:-|$)|gpt-3\.5|gpt-35)")
_OPENAI = re.compile(r"(?:gpt-(?!oss)|chatgpt|o\d(?:-|$)|codex|computer-use|text-embedding-|davinci|babbage)")
_CONTEXTS = (
    (re.compile(r"gpt-4\.1"), 1_047_576),
    (re.compile(r"(?:gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4-vision|gpt-oss)"), 131_072),
    (re.compile(r"gpt-4-32k"), 32_768),
    (re.compile(r"gpt-4(?:-\d|$)"), 8_192),
    (re.compile(r"gpt-3"), 16_385),
    (re.compile(r"o\d"), 200_000),
    (re.compile(r"text-embedding-"), 300_000),
)


@dataclass(frozen=True)
class Family:
    """What is known of a model. `percent` is what its tokens are at most, in hundredths of `encoding`'s."""

    name: str
    vendor: Literal["openai", "anthropic", "google", "other"]
    frame: Frame
    encoding: str | None
    percent: int
    context: int
    """The longest input, used where nothing else bounds a part."""
    late: bool = False
    """A Claude after 4.6."""


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """Returns the family of a model; anything not known belongs to the one with the widest bounds."""
    name = bare(model)
    if "claude" in name:
        late = not is_claude_to_4_6(name)
        percent = CLAUDE_PERCENT if late else CLAUDE_TO_4_6_PERCENT
        return Family(name, "anthropic", "claude", "cl100k_base", percent, 1_000_000, late)
    if name.startswith(("gemini", "gemma")):
        return Family(name, "google", "gemini", None, 100, 2_097_152)
    encoding = encoding_for(model)
    if name.startswith("gpt-oss"):
        return Family(name, "other", "open", encoding, 100, 131_072)
    if _OPENAI.match(name):
        frame: Frame = "published" if _PUBLISHED.match(name) else "channels"
        context = next((size for pattern, size in _CONTEXTS if pattern.match(name)), 1_050_000)
        return Family(name, "openai", frame, encoding, 100, context)
    return Family(name, "other", "other", encoding, 100, CONTEXT_MAX)


def is_claude_to_4_6(model: str) -> bool:
    """Says whether this is a Claude with the older tokenizer; not for a name without a version."""
    # A region or an account before the name, as in a cloud's address, may look like a version.
    found = _CLAUDE_VERSION.search(model, max(0, model.find("claude")))
    return found is not None and (int(found[1]), int(found[2] or 0)) <= (4, 6)
