"""Upstreams as they are configured: where they are, what they speak, how they are authorized."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal, get_args
from urllib.parse import urlsplit

from noburn_sdk.integrations.openai.site import provider_of

from proxy.reading import Table

Api = Literal["openai", "anthropic"]
Auth = Literal["bearer", "x-api-key", "api-key", "none"]

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
OWN_PATHS = ("healthz", "readyz", "metrics")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?|\[[0-9a-f:.]+\]")
_PATH = re.compile(r"(/[A-Za-z0-9._~@-]+)*")
_BASES: Mapping[Api, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
}
ATTEMPTS_MAX = 5


@dataclass(frozen=True)
class Upstream:
    """One provider's address. What follows `/<name>/v1` in a request's path is put behind its base URL."""

    name: str
    api: Api
    scheme: str
    host: str
    port: int
    path: str
    provider: str | None
    auth: Auth
    key: str | None = field(default=None, repr=False)
    private: bool = False
    retries: int = 0
    fallbacks: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    """What models are called here that a fallback was asked for under another name."""
    cost_usd: Mapping[str, str] = field(default_factory=dict)
    """The most that a call of an endpoint costs which nothing else bounds."""
    query: tuple[tuple[str, str], ...] = ()

    @property
    def authority(self) -> str:
        """What the Host header says."""
        usual = {"https": 443, "http": 80}[self.scheme]
        return self.host if self.port == usual else f"{self.host}:{self.port}"


def _base(table: Table, api: Api) -> tuple[str, str, int, str]:
    text = table.text("base_url", _BASES[api]) or _BASES[api]
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        table.wrong("base_url", "must be a URL with a valid host and port")
        return "https", "invalid.invalid", 443, ""
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/")
    if parts.scheme not in ("http", "https"):
        table.wrong("base_url", "must begin with https:// or http://")
    elif not _HOST.fullmatch(host) or port == 0:
        table.wrong("base_url", "must be a URL with a valid host and port")
    elif parts.username is not None or parts.query or parts.fragment or not _PATH.fullmatch(path):
        table.wrong("base_url", "must have no user, query or fragment, and a plain path")
    return parts.scheme, host, port or {"http": 80}.get(parts.scheme, 443), path


def read_upstream(
    table: Table, name: str, environment: Mapping[str, str], allowed: Sequence[str] | None
) -> Upstream:
    """Reads one upstream."""
    if not NAME.fullmatch(name) or name in OWN_PATHS:
        table.wrong(
            "", f"is no name for an upstream: lower case letters, digits and hyphens, not {OWN_PATHS}"
        )
    usual: Api = "anthropic" if name == "anthropic" else "openai"
    said = table.text("api", usual)
    api: Api = said if said in get_args(Api) else usual  # type: ignore[assignment]
    if said not in get_args(Api):
        table.wrong("api", f"must be one of {', '.join(get_args(Api))}")
    scheme, host, port, path = _base(table, api)
    if allowed is not None and host not in allowed:
        table.wrong("base_url", f"has a host that is not in allow_hosts: {host}")
    private = table.flag("private")
    if scheme == "http" and not private:
        table.wrong("base_url", "must begin with https:// unless private = true")
    auth = table.text("auth", "x-api-key" if api == "anthropic" else "bearer")
    if auth not in get_args(Auth):
        table.wrong("auth", f"must be one of {', '.join(get_args(Auth))}")
        auth = "bearer"
    costs = table.pairs("cost_usd")
    for endpoint, amount in costs.items():
        if not _is_amount(amount):
            table.wrong(f"cost_usd.{endpoint}", 'must be an amount in USD such as "0.25"')
    found = Upstream(
        name=name,
        api=api,
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        provider=table.text("provider", api if api == "anthropic" else provider_of(host, None)),
        auth=auth,  # type: ignore[arg-type]
        key=table.secret("key", environment),
        private=private,
        retries=table.whole("retries", 0, 0, ATTEMPTS_MAX - 1),
        fallbacks=table.texts("fallbacks"),
        models=table.pairs("models"),
        cost_usd=costs,
        query=tuple(table.pairs("query").items()),
    )
    table.close()
    return found


def _is_amount(text: str) -> bool:
    try:
        return Decimal(text).is_finite() and Decimal(text) >= 0
    except InvalidOperation:
        return False


def check_fallbacks(upstreams: Mapping[str, Upstream], errors: dict[str, str]) -> None:
    """Notes fallbacks that cannot be: unknown, of another kind, without a key of their own, or too many."""
    for one in upstreams.values():
        for place, name in enumerate(one.fallbacks):
            where = f"upstreams.{one.name}.fallbacks[{place}]"
            other = upstreams.get(name)
            if other is None or other is one:
                errors[where] = f"{name} is no other upstream"
            elif other.api != one.api:
                errors[where] = f"{name} speaks {other.api}, not {one.api}"
            elif other.key is None and other.auth != "none":
                # The caller's own key is for the upstream that it called, and goes nowhere else.
                errors[where] = f"{name} needs a key of its own (key_env or key_file)"
        if 1 + one.retries + len(one.fallbacks) > ATTEMPTS_MAX:
            errors[f"upstreams.{one.name}.fallbacks"] = (
                f"with retries these are more than {ATTEMPTS_MAX} attempts"
            )
