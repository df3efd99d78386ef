"""What addresses name: ids as the wire spells them."""

from __future__ import annotations

from uuid import UUID

from noburn.kit import ids
from noburn.kit.problems import Missing


def path_id(text: str, *prefixes: str) -> UUID:
    """Reads an id with one of these prefixes. Raises Missing: what is no id is not there either."""
    for prefix in prefixes:
        try:
            return ids.decode(prefix, text)
        except ids.BadId:
            continue
    raise Missing(text)
