"""What tells the same request from another without saying anything of it: a keyed digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

BYTES_MAX = 4_000_000
"""Of a larger request none is made: a loop of those is caught by what they cost."""

BYTES = 16


def fingerprint(model: str, body: Mapping[str, Any], *, key: str, size: int = 0) -> str | None:
    """Returns the same text for the same request under the same API key, in whatever process; None for a huge one.

    Keyed, so that nobody who sees it can try prompts against it. What has no JSON form is told by its text, so that
    objects which differ each time are never taken for a repetition.
    """
    if size > BYTES_MAX:
        return None
    text = json.dumps([model, body], sort_keys=True, separators=(",", ":"), default=repr)
    secret = hashlib.blake2b(key.encode(), digest_size=32).digest()
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=BYTES, key=secret).hexdigest()
