"""Replacing methods of other people's classes, and putting back exactly what was there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from noburn_sdk._config import logger

_MISSING = object()


@dataclass
class Patch:
    """One replaced attribute of a class or module."""

    owner: Any
    name: str
    before: Any
    after: Any

    @classmethod
    def apply(cls, owner: Any, name: str, make: Callable[[Any], Any]) -> Patch:
        """Puts `make(original)` in the place of an attribute, inherited or its own. Raises AttributeError."""
        own = vars(owner).get(name, _MISSING)
        after = make(getattr(owner, name))
        setattr(owner, name, after)
        return cls(owner, name, own, after)

    def undo(self) -> None:
        """Puts back what was there; where somebody replaced the replacement, that one stays, and is named."""
        if vars(self.owner).get(self.name, _MISSING) is not self.after:
            logger.warning("%s.%s was replaced by somebody else, and is left", self.owner, self.name)
        elif self.before is _MISSING:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)


class Patches:
    """What one integration replaced: all of it or nothing."""

    def __init__(self) -> None:
        self._made: list[Patch] = []

    @property
    def active(self) -> bool:
        """Whether anything is replaced; a replacement that could not be taken back passes calls by itself."""
        return bool(self._made)

    def add(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces one attribute."""
        self._made.append(Patch.apply(owner, name, make))

    def add_if_there(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replaces an attribute that not every version has."""
        if owner is not None and hasattr(owner, name):
            self.add(owner, name, make)

    def undo(self) -> None:
        """Takes everything back, the last first."""
        while self._made:
            self._made.pop().undo()
