"""The public ranks of OpenAI's tokenizers, loaded once from the optional package `bpe-openai`."""

from __future__ import annotations

import importlib
import re
import threading
import warnings
from typing import Any

_O200K = re.compile(r"(?:ft:)?(?:chatgpt-4o|gpt-(?:4o|4\.1|4\.5|5|oss)|o[134](?:-|$)|codex|computer-use)")
_CL100K = re.compile(r"(?:ft:)?(?:gpt-4(?:-|$)|gpt-3\.5|gpt-35|text-embedding-)")

_lock = threading.Lock()
_loaded: dict[str, Any] = {}


def encoding_for(model: str) -> str | None:
    """Returns the name of the ranks that an OpenAI model is billed by; None for a model that is not known."""
    if _O200K.match(model):
        return "o200k_base"
    return "cl100k_base" if _CL100K.match(model) else None


def count(text: str, encoding: str | None) -> int:
    """Returns the tokens of a text under these ranks; its UTF-8 bytes where there are none."""
    tokenizer = None if encoding is None else _tokenizer(encoding)
    if tokenizer is None:
        return len(text.encode("utf-8", "surrogatepass"))
    try:
        return int(tokenizer.count(text))
    except UnicodeEncodeError:
        # A lone surrogate is sent as the replacement character, which is what is billed then.
        return int(tokenizer.count(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")))


def _tokenizer(encoding: str) -> Any:
    if encoding not in _loaded:
        with _lock:
            if encoding not in _loaded:
                _loaded[encoding] = _load(encoding)
    return _loaded[encoding]


def _load(encoding: str) -> Any:
    try:
        with warnings.catch_warnings():
            # The package opens its rank files by a call that Python 3.11 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            # Its public Encoding refuses texts above 200,000 tokens, so the binding below it is used.
            bindings = importlib.import_module("bpe_openai._bindings")
    except ImportError:
        return None
    return bindings.tokenizer_for_encoding(encoding)
