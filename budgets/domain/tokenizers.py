"""Which models count text alike, and what is known of how counts of one tokenizer become those of another.

A provider's count is of its own tokenizer: the same text is another number of tokens elsewhere. What is measured is a
bound, not a ratio: the most that it became among texts in 89 languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

O200K: Final = "o200k"
CL100K: Final = "cl100k"
CLAUDE: Final = "claude"
CLAUDE_LATE: Final = "claude-4.7"
GEMINI: Final = "gemini"

MOST: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        (CL100K, CLAUDE): "1.35",
        (CL100K, CLAUDE_LATE): "1.85",
        (O200K, CLAUDE): "3.8",
    }
)
"""What a count of the one was multiplied by at most to be one of the other. Measured November 2026 over 89 languages."""

_DATE = re.compile(r"-20\d{6}|-20\d{2}-\d{2}-\d{2}")
_CLAUDE_VERSION = re.compile(r"-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_O200K = re.compile(r"chatgpt|gpt-4o|gpt-4\.|gpt-[5-9]|gpt-oss|gpt-realtime|gpt-audio|o\d(?:-|$)|codex")
_CL100K = re.compile(r"gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-")
_STEM = re.compile(r"[a-z]+")


@lru_cache(maxsize=1024)
def tokenizer_of(model: str) -> str:
    """Returns the name of the tokenizer that counts for a model; models of an unknown one share their names' stem.

    A Claude without a readable version is taken for a late one, whose tokens are the most.
    """
    name = _DATE.sub("", model.lower()).rsplit("/", 1)[-1].rsplit("anthropic.", 1)[-1]
    if "claude" in name:
        found = _CLAUDE_VERSION.search(name, name.find("claude"))
        early = found is not None and (int(found[1]), int(found[2] or 0)) <= (4, 6)
        return CLAUDE if early else CLAUDE_LATE
    if name.startswith(("gemini", "gemma")):
        return GEMINI
    if _O200K.match(name):
        return O200K
    if _CL100K.match(name):
        return CL100K
    stem = _STEM.match(name)
    return stem.group() if stem else name
