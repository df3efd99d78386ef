"""The public ranks of OpenAI's tokenizers, loaded once from the optional package `bpe-openai`.

The package carries the ranks inside its compiled binding; a test holds them, token by token, against files
whose sha256 is the one that OpenAI's own tiktoken expects. Long texts are counted in slices, so that a pasted
document costs memory and time by the slice, and a count that may stop stops early.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import unicodedata
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import Any

TOKEN_BYTES_MAX = 128
"""The longest token of either ranks: a text of more than 128 n characters has more than n tokens."""

SLICE_CHARS = 65_536
SEARCH_CHARS = 2_048
CUT_TOKENS = 16
"""What is added for a cut through the middle of something. Measured, it hides 1; 5 among lone surrogates."""

_VENDORS = re.compile(
    r"(?:ft:|(?:openai|azure|azure_ai|anthropic|google|gemini|models|vertex_ai|bedrock|openrouter)/)"
)
_O200K = re.compile(r"(?:chatgpt-4o|gpt-(?:4o|4\.1|4\.5|5|oss)|o[134](?:-|$)|codex|computer-use)")
_CL100K = re.compile(r"(?:gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-|(?:davinci|babbage)-002|ft-gpt-3\.5)")

_BINDINGS = "bpe_openai._bindings"
_lock = threading.Lock()
_loaded: dict[str, Any] = {}


@lru_cache(maxsize=1024)
def bare(model: str) -> str:
    """Returns a model's name in small letters, without the vendor before it or the mark of a fine-tune."""
    name = model.strip().lower()
    while found := _VENDORS.match(name):
        name = name[found.end() :]
    return name


@lru_cache(maxsize=1024)
def encoding_for(model: str) -> str | None:
    """Returns the name of the ranks that an OpenAI model is billed by; None for a model that is not known."""
    name = bare(model)
    if _O200K.match(name):
        return "o200k_base"
    return "cl100k_base" if _CL100K.match(name) else None


def utf8_bytes(text: str) -> int:
    """Returns the length of a text in UTF-8, which no byte-level tokenizer exceeds in tokens."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def widest_bytes(text: str) -> int:
    """Returns the most bytes that a tokenizer may see which normalises first, as some open ones do (NFKC)."""
    size = utf8_bytes(text)
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return size
    return max(size, utf8_bytes(unicodedata.normalize("NFKC", text)))


def has_ranks(encoding: str | None) -> bool:
    """Says whether tokens of this encoding can be counted here."""
    return encoding is not None and _tokenizer(encoding) is not None


def count(text: str, encoding: str | None) -> int:
    """Returns the tokens of a text under these ranks; its UTF-8 bytes where there are none."""
    counted = count_until(text, encoding, None)
    assert counted is not None
    return counted


def count_until(text: str, encoding: str | None, limit: int | None) -> int | None:
    """Returns the tokens of a text, or None as soon as they are seen to be more than `limit`.

    Exact for texts of up to 65,536 characters, and for longer ones wherever two words meet often enough to be
    cut between them; else a bound, at most 18 tokens higher for each 65,536 characters.
    """
    tokenizer = None if encoding is None else _tokenizer(encoding)
    if limit is not None and (limit < 0 or len(text) > limit * TOKEN_BYTES_MAX):
        return 0 if limit >= 0 and not text else None
    if tokenizer is None:
        size = utf8_bytes(text)
        return size if limit is None or size <= limit else None
    if len(text) <= SLICE_CHARS:
        return _count(tokenizer, text, limit)
    total, start = 0, 0
    while start < len(text):
        end, slack = _cut(text, start)
        found = _count(tokenizer, text[start:end], None if limit is None else limit - total)
        if found is None:
            return None
        total, start = total + found + slack, end
        if limit is not None and total > limit:
            return None
    return total


def _count(tokenizer: Any, text: str, limit: int | None) -> int | None:
    try:
        found = tokenizer.count(text) if limit is None else tokenizer.count_till_limit(text, limit)
    except UnicodeEncodeError:
        # A lone surrogate is sent as the replacement character, which is what is billed then.
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found = tokenizer.count(mended) if limit is None else tokenizer.count_till_limit(mended, limit)
    return None if found is None else int(found)


def _cut(text: str, start: int) -> tuple[int, int]:
    """Where a slice ends, and what the cut may hide: nothing before the space between two words."""
    end = start + SLICE_CHARS
    if end >= len(text):
        return len(text), 0
    at = end
    while (at := text.rfind(" ", max(start + 1, end - SEARCH_CHARS), at)) > 0:
        before, after = text[at - 1], text[at + 1]
        # Both tokenizers end a word at a space and begin the next one with it.
        if before.isascii() and before.isalpha() and after.isascii() and after.isalpha():
            return at, 0
    return _in_threes(text, start, end), CUT_TOKENS


def _in_threes(text: str, start: int, end: int) -> int:
    """Moves a cut within digits, which both tokenizers take by three from where the digits begin."""
    first = end
    while first > start and unicodedata.category(text[first - 1])[0] == "N":
        first -= 1
    # Digits that fill the slice begin where the last cut kept to their threes.
    return end - (end - first) % 3


def _tokenizer(encoding: str) -> Any:
    if encoding not in _loaded:
        with _lock:
            if encoding not in _loaded:
                _loaded[encoding] = _load(encoding)
    return _loaded[encoding]


def _load(encoding: str) -> Any:
    bindings = _bindings()
    return None if bindings is None else bindings.tokenizer_for_encoding(encoding)


def _bindings() -> Any:
    """The binding within the package, without the package.

    Its public Encoding refuses texts above 200,000 tokens, and importing it reads all ranks into Python first:
    a second of the first call, and 60 MB, for nothing that is used here.
    """
    if _BINDINGS in sys.modules:
        return sys.modules[_BINDINGS]
    package = importlib.util.find_spec("bpe_openai")
    places = None if package is None else package.submodule_search_locations
    spec = None if places is None else PathFinder.find_spec(_BINDINGS, list(places))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    # Whoever imports the package later finds it there: it cannot be loaded twice.
    sys.modules[_BINDINGS] = module
    try:
        spec.loader.exec_module(module)
    except ImportError:
        del sys.modules[_BINDINGS]
        return None
    return module
