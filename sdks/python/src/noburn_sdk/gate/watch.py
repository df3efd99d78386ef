"""Watching what the gate says inside a piece of code, for frameworks that turn errors into answers."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

from noburn_sdk.errors import NoburnError

if TYPE_CHECKING:
    from typing_extensions import Self


class watching:
    """Notes the last refusal inside, until a later call is allowed. Follows asyncio's tasks and copied contexts."""

    def __init__(self) -> None:
        self.refusal: NoburnError | None = None
        self._token: Token[watching | None] | None = None

    def __enter__(self) -> Self:
        self._token = _watch.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _watch.reset(self._token)


_watch: ContextVar[watching | None] = ContextVar("noburn_watch", default=None)


def note(refusal: NoburnError | None) -> None:
    """Tells whoever watches what became of a call: its refusal, or None where it was allowed."""
    found = _watch.get()
    if found is not None:
        found.refusal = refusal
