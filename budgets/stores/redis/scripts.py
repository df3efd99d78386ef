"""The Lua scripts of one epoch. The epoch's id is literal text in each, so a restarted Redis answers NOSCRIPT.

Only the recovery controller loads them (`texts`); everybody else knows their digests alone.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from uuid import UUID

LUA = Path(__file__).resolve().parent / "lua"
NAMES = ("preflight", "resolve", "load", "retire", "extend", "renew", "version", "open", "close")


@cache
def _source(name: str) -> str:
    return (LUA / f"{name}.lua").read_text()


class ScriptSet:
    """Texts and SHA-1 digests of the scripts of one epoch."""

    __slots__ = (
        "close",
        "extend",
        "load",
        "open",
        "preflight",
        "renew",
        "resolve",
        "retire",
        "texts",
        "version",
    )

    def __init__(self, epoch_id: UUID) -> None:
        self.texts: dict[str, str] = {name: _source(name).replace("@EPOCH@", epoch_id.hex) for name in NAMES}
        # EVALSHA's name for a script is its SHA-1; nothing here is secret.
        digests = {
            n: hashlib.sha1(t.encode(), usedforsecurity=False).hexdigest() for n, t in self.texts.items()
        }
        self.preflight = digests["preflight"]
        self.resolve = digests["resolve"]
        self.load = digests["load"]
        self.retire = digests["retire"]
        self.extend = digests["extend"]
        self.renew = digests["renew"]
        self.version = digests["version"]
        self.open = digests["open"]
        self.close = digests["close"]
