"""Exact counts by OpenAI's own tiktoken, offline: what estimates are measured and tested against.

tiktoken downloads its ranks, which a closed network does not allow; the same files lie in the package `bpe-openai`.
tiktoken reads them from a cache that is made for that moment, and compares their sha256 with its own.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import tiktoken
from tiktoken_ext import openai_public

Ranks = Literal["o200k_base", "cl100k_base"]
URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


def ranks_file(name: Ranks) -> bytes:
    """Returns the file of ranks as OpenAI publishes it, out of the package."""
    # Found without being imported, which would load everything that the package has.
    spec = importlib.util.find_spec("bpe_openai")
    if spec is None or not spec.origin:
        raise RuntimeError("bpe-openai is not installed: make setup")
    return gzip.decompress((Path(spec.origin).parent / "data" / f"{name}.tiktoken.gz").read_bytes())


@cache
def encoding(name: Ranks) -> tiktoken.Encoding:
    """Returns tiktoken's encoding. Raises ValueError where the ranks are not those that tiktoken expects."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / hashlib.sha1(URL.format(name).encode(), usedforsecurity=False).hexdigest()
        file.write_bytes(ranks_file(name))
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = directory
        try:
            return tiktoken.Encoding(**getattr(openai_public, name)())
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


def tokens(text: str, name: Ranks = "o200k_base") -> int:
    """Returns the tokens of a text, which may look like a special token and is none."""
    return len(encoding(name).encode_ordinary(text))


def chat_tokens(messages: Sequence[Mapping[str, Any]], name: Ranks = "o200k_base") -> int:
    """Returns what OpenAI's cookbook counts for a chat of texts: 3 a message, 1 beside a name, 3 to prime."""
    total = 3
    for message in messages:
        total += 3 + sum(tokens(value, name) for value in message.values()) + ("name" in message)
    return total


def tool_tokens(functions: Sequence[Mapping[str, Any]], name: Ranks = "o200k_base") -> int:
    """Returns what OpenAI's cookbook counts for functions, on gpt-4o (o200k) or gpt-4 and gpt-3.5 (cl100k)."""
    first = 7 if name == "o200k_base" else 10
    total = 0
    for function in functions:
        described = str(function.get("description") or "").removesuffix(".")
        total += first + tokens(f"{function['name']}:{described}", name)
        properties = (function.get("parameters") or {}).get("properties") or {}
        if properties:
            total += 3
        for key, fields in properties.items():
            total += 3
            if "enum" in fields:
                total -= 3
                total += sum(3 + tokens(str(choice), name) for choice in fields["enum"])
            told = str(fields.get("description") or "").removesuffix(".")
            total += tokens(f"{key}:{fields.get('type', '')}:{told}", name)
    return total + (12 if functions else 0)
