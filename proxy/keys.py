"""Virtual keys: made here, kept by their hashes alone, and what each allows."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from noburn_sdk.attribution import NOTHING, Attribution

from proxy.reading import Table

PREFIX = "nb_proxy_"
HASH = re.compile(r"sha256:[0-9a-f]{64}")

WHO = ("customer", "user", "run", "project", "plan")
SAID = (*WHO, "task", "tags", "cost_usd", "max_input_tokens", "max_output_tokens")
"""What a call may say by headers and metadata. Never the provider: its name decides the price."""
ASKED = ("fit", "cut", "wait_ms")
MAY = (*SAID, *ASKED)
MAY_USUALLY = ("run", "task", "tags", "max_output_tokens", *ASKED)
"""What narrows a call, or only names a part of it."""


@dataclass(frozen=True)
class Grant:
    """What a caller may do. `fixed` is whom its calls are for; what is not in `may` cannot be said otherwise."""

    name: str
    fixed: Attribution = NOTHING
    may: frozenset[str] = frozenset(MAY)
    upstreams: frozenset[str] | None = None
    models: tuple[str, ...] = ()
    account: bool = True
    """Whether it may reach what belongs to the provider's account: files, stored answers, batches."""
    fit: bool = False
    cut: bool = False
    noburn_key: str | None = field(default=None, repr=False)
    """Another tenant's key than the proxy's own."""

    def allows_model(self, model: str) -> bool:
        """Says whether a model may be called."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)


EVERYTHING = Grant("tenant")
"""Of who holds the tenant's own key."""


def make() -> str:
    """Returns a new virtual key."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """Returns what the configuration knows a key by. A key is long and random, so a plain hash is enough."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def read_grant(table: Table, name: str, *, account: bool, may: Iterable[str] = MAY_USUALLY) -> Grant:
    """Reads what callers of a kind, or with a virtual key, may do."""
    chosen = table.texts("may", may, known=MAY)
    tags = table.pairs("tags")
    if len(tags) > 10:
        table.wrong("tags", "must be at most 10")
    upstreams = table.texts("upstreams") if "upstreams" in table else None
    who: dict[str, Any] = {one: table.text(one) for one in WHO}
    return Grant(
        name=name,
        fixed=Attribution(**who, tags=tags),
        may=frozenset(chosen),
        upstreams=None if upstreams is None else frozenset(upstreams),
        models=table.texts("models"),
        account=table.flag("account", account),
        fit=table.flag("fit"),
        cut=table.flag("cut"),
    )


def read_key(table: Table, environment: Mapping[str, str]) -> tuple[str, Grant] | None:
    """Reads a virtual key: its hash, and what it allows."""
    name = table.text("name")
    if name is None:
        table.wrong("name", "is needed: it stands in the log in the place of the key")
    digest = table.text("hash")
    if digest is None:
        key = table.secret("key", environment, needed=True)
        if key is not None and not key.startswith(PREFIX):
            table.wrong("key_file" if "key_file" in table else "key_env", f"must hold a key of {PREFIX}…")
        digest = None if key is None else hash_of(key)
    elif not HASH.fullmatch(digest):
        table.wrong("hash", "must be sha256: and 64 hexadecimal digits, as `python -m proxy key` prints them")
    grant = read_grant(table, name or "", account=False)
    other = table.secret("noburn_key", environment)
    if other is None and ("noburn_key_env" in table or "noburn_key_file" in table):
        # A key that is missing must not become the proxy's own, which is another tenant's.
        table.wrong("noburn_key_env", "names no key")
    table.close()
    return None if digest is None else (digest, replace(grant, noburn_key=other))
