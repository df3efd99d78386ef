"""The Lua scripts of one epoch. The epoch's id is literal text in each, so a restarted Redis answers NOSCRIPT.

Only the recovery controller loads them. It records their digests with the epoch, and everybody calls them by those: a
program of another version, whose own texts differ, goes on with the scripts that the epoch was opened with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from uuid import UUID

LUA = Path(__file__).resolve().parent / "lua"
NAMES = (
    "preflight",
    "guarded",
    "resolve",
    "load",
    "retire",
    "extend",
    "renew",
    "version",
    "open",
    "close",
    "look",
    "run",
    "ease",
)


@cache
def _source(name: str) -> str:
    text = (LUA / f"{name}.lua").read_text()
    # One script that places holds stands inside another, so that both place them in the same way.
    return text.replace("@PREFLIGHT@", _source("preflight")) if "@PREFLIGHT@" in text else text


@cache
def version() -> str:
    """What tells this program's scripts from another version's: a digest of all their texts."""
    return hashlib.blake2b("\0".join(_source(name) for name in NAMES).encode(), digest_size=8).hexdigest()


def texts_of(epoch_id: UUID) -> dict[str, str]:
    """The scripts' texts for an epoch, by name: what the controller loads."""
    return {name: _source(name).replace("@EPOCH@", epoch_id.hex) for name in NAMES}


def digests_of(epoch_id: UUID) -> dict[str, str]:
    """What the controller records with the epoch: EVALSHA's name of each script, and the `sources` they came from."""
    # EVALSHA's name for a script is its SHA-1; nothing here is secret.
    digests = {
        name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        for name, text in texts_of(epoch_id).items()
    }
    return {**digests, "sources": version()}


class ScriptSet:
    """EVALSHA's names of the scripts that an epoch was opened with."""

    __slots__ = (*NAMES, "sources")

    close: str
    ease: str
    extend: str
    guarded: str
    load: str
    look: str
    open: str
    preflight: str
    renew: str
    resolve: str
    retire: str
    run: str
    sources: str
    version: str

    def __init__(self, recorded: Mapping[str, str]) -> None:
        for name in self.__slots__:
            setattr(self, name, recorded.get(name, ""))

    @property
    def current(self) -> bool:
        """Whether they are this program's own version."""
        return self.sources == version()
