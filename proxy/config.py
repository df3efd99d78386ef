"""The proxy's configuration: a TOML file, or the environment alone. It is read whole, and every error is named."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.gate import Settings

from proxy.keys import MAY_USUALLY, WHO, Grant, read_grant, read_key
from proxy.reading import ConfigError, Table
from proxy.upstream_config import Upstream, check_fallbacks, read_upstream

ACCEPTED = ("virtual", "tenant", "anyone")
MAPPED = ("customer", "user", "run", "project", "plan")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What callers and upstreams may take. Times in seconds."""

    body_bytes_max: int = 32 * MIB
    header_bytes_max: int = 32_768
    header_seconds: float = 15.0
    """For a request's head to arrive; an idle connection is closed after it as well."""
    body_idle_seconds: float = 15.0
    """Between two pieces of a request's body."""
    body_seconds: float = 120.0
    send_seconds: float = 60.0
    """For a caller to take a piece of its answer."""
    bodies_bytes_max: int = 512 * MIB
    """Of all requests under way in one process together; what does not fit is answered 503."""
    call_seconds: float = 3_600.0
    """For a call and its answer as a whole."""
    calls_max: int = 1_000
    """At once, in one process; more are answered 503."""
    calls_per_caller_max: int = 500
    connect_seconds: float = 5.0
    read_seconds: float = 600.0
    """Between two pieces of an answer."""
    write_seconds: float = 60.0
    pool_seconds: float = 10.0
    connections_max: int = 1_000
    connections_kept: int = 100
    keep_seconds: float = 30.0
    backlog: int = 1_024
    drain_seconds: float = 30.0
    flush_seconds: float = 10.0
    tenants_max: int = 64
    """Different tenants' keys in use at once."""


@dataclass(frozen=True)
class Config:
    """All of it, valid."""

    host: str
    port: int
    workers: int
    noburn_url: str | None
    noburn_key: str | None = field(repr=False)
    gate: Mapping[str, Any]
    accept: frozenset[str]
    anyone: Grant
    upstreams: Mapping[str, Upstream]
    keys: Mapping[str, Grant] = field(repr=False)
    metadata: Mapping[str, tuple[str, ...]]
    metrics_token: str | None = field(repr=False)
    access_log: bool
    limits: Limits


_WHOLES: Mapping[str, tuple[int, int]] = {
    "body_bytes_max": (1_024, 1024 * MIB),
    "bodies_bytes_max": (1_024, 1024 * 1024 * MIB),
    "header_bytes_max": (1_024, MIB),
    "calls_max": (1, 100_000),
    "calls_per_caller_max": (1, 100_000),
    "connections_max": (1, 100_000),
    "connections_kept": (0, 100_000),
    "backlog": (128, 65_535),
    "tenants_max": (1, 10_000),
}


def _limits(table: Table) -> Limits:
    usual = Limits()
    found: dict[str, Any] = {}
    for name in Limits.__dataclass_fields__:
        default = getattr(usual, name)
        if name in _WHOLES:
            found[name] = table.whole(name, default, *_WHOLES[name])
        else:
            found[name] = table.seconds(name, default)
    table.close()
    return Limits(**found)


def _gate(table: Table) -> dict[str, Any]:
    """The settings of the SDK's gate, checked by itself."""
    names = [name for name in Settings.__dataclass_fields__ if name != "cut_streams"]
    # A server waits longer for noburn than a program would: its callers' own time-outs are minutes, and asking again
    # while everything is slow makes it slower.
    found: dict[str, Any] = {"timeout": 5.0, "max_retries": 1, "retry_timeout": 11.0}
    for name in names:
        value = table.raw(name)
        if value is not None:
            found[name] = value
    texts = ("mode", "on_unavailable", "allow_usd_max")
    others: dict[str, Any] = {"outbox": str | bool, "leases": bool, **dict.fromkeys(texts, str)}
    odd = [name for name, value in found.items() if not isinstance(value, others.get(name, int | float))]
    for name in odd:
        table.wrong(name, "must be a text" if name in texts else "is of the wrong type")
    try:
        Settings(**{name: value for name, value in found.items() if name not in odd})
    except InvalidRequestError as error:
        for name, text in error.errors.items():
            table.wrong(name, text)
    table.close()
    return found


def _metadata(table: Table) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, path in table.pairs("metadata").items():
        parts = tuple(path.split("."))
        if name not in MAPPED:
            table.wrong(f"metadata.{name}", f"is no part of an attribution; known are {', '.join(MAPPED)}")
        elif not all(parts) or len(parts) > 5:
            table.wrong(
                f"metadata.{name}", 'must be the place of a text in the body, such as "metadata.customer"'
            )
        else:
            found[name] = parts
    table.close()
    return found


def _environment_alone(environment: Mapping[str, str]) -> dict[str, Any]:
    """What a file would say where there is none: OpenAI and Anthropic, and what few variables name."""
    upstreams: dict[str, dict[str, Any]] = {"openai": {}, "anthropic": {}}
    for name, table in upstreams.items():
        if key := environment.get(f"{name.upper()}_API_KEY"):
            table["key_env"] = f"{name.upper()}_API_KEY" if key.strip() else None
        if url := environment.get(f"NOBURN_PROXY_{name.upper()}_URL"):
            table |= {"base_url": url, "private": True}
    return {"upstreams": upstreams}


def read(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Config:
    """Reads the file, or the environment alone. Raises ConfigError naming every mistake."""
    given = os.environ if environment is None else environment
    if file is None and given.get("NOBURN_PROXY_CONFIG"):
        file = Path(given["NOBURN_PROXY_CONFIG"])
    if file is None:
        return from_tables(_environment_alone(given), given)
    try:
        return from_tables(tomllib.loads(file.read_text()), given)
    except (OSError, ValueError) as error:
        raise ConfigError({str(file): f"cannot be read: {error}"}) from None


def from_tables(value: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """Builds the configuration of what a file says. Raises ConfigError."""
    errors: dict[str, str] = {}
    root = Table(value, "", errors)
    listen = root.table("listen")
    port = listen.whole("port", _port(environment, errors), 1, 65_535)
    host = listen.text("host", environment.get("NOBURN_PROXY_HOST") or "127.0.0.1") or ""
    workers = listen.whole("workers", 1, 1, 64)
    listen.close()
    noburn = root.table("noburn")
    url = noburn.text("url", environment.get("NOBURN_BASE_URL") or None)
    if url is not None and not url.startswith(("http://", "https://")):
        noburn.wrong("url", "must begin with http:// or https://")
    if "key_env" not in noburn and "key_file" not in noburn:
        key = (environment.get("NOBURN_API_KEY") or "").strip() or None
    else:
        key = noburn.secret("key", environment, needed=True)
    noburn.close()
    callers = root.table("callers")
    named = environment.get("NOBURN_PROXY_CALLERS") or ""
    usual = [one.strip() for one in named.split(",") if one.strip()] or ["virtual", "tenant"]
    accept = callers.texts("accept", usual, known=ACCEPTED)
    if strange := [one for one in usual if one not in ACCEPTED]:
        errors["NOBURN_PROXY_CALLERS"] = f"has unknown {', '.join(strange)}; known are {', '.join(ACCEPTED)}"
    known = callers.table("anyone")
    # Nothing distinguishes these callers, so that there is nothing which their headers could widen.
    anyone = read_grant(known, "anyone", may=(*WHO, *MAY_USUALLY), account=True)
    known.close()
    callers.close()
    hosts = [one.lower() for one in root.texts("allow_hosts")] if "allow_hosts" in root else None
    table = root.table("upstreams")
    upstreams = {name: read_upstream(table.table(name), name, environment, hosts) for name in table.names()}
    if not upstreams:
        errors["upstreams"] = "must name at least one"
    check_fallbacks(upstreams, errors)
    keys = _keys(root, environment, upstreams)
    if key is None and ("anyone" in accept or any(grant.noburn_key is None for grant in keys.values())):
        errors["noburn.key_env"] = "is needed (or key_file, or NOBURN_API_KEY): calls are asked for with it"
    metadata = _metadata(root.table("attribution"))
    metrics = root.table("metrics")
    token = metrics.secret("token", environment) or environment.get("NOBURN_PROXY_METRICS_TOKEN") or None
    metrics.close()
    access_log = root.flag("access_log", True)
    found = Config(
        host=host,
        port=port,
        workers=workers,
        noburn_url=url,
        noburn_key=key,
        gate=_gate(root.table("gate")),
        accept=frozenset(accept),
        anyone=anyone,
        upstreams=upstreams,
        keys=keys,
        metadata=metadata,
        metrics_token=token,
        access_log=access_log,
        limits=_limits(root.table("limits")),
    )
    root.close()
    if errors:
        raise ConfigError(errors)
    return found


def _port(environment: Mapping[str, str], errors: dict[str, str]) -> int:
    text = environment.get("NOBURN_PROXY_PORT") or "8430"
    if text.isdecimal() and 0 < int(text) < 65_536:
        return int(text)
    errors["NOBURN_PROXY_PORT"] = "must be a port"
    return 8430


def _keys(root: Table, environment: Mapping[str, str], upstreams: Mapping[str, Upstream]) -> dict[str, Grant]:
    keys: dict[str, Grant] = {}
    for table in root.tables("keys"):
        read = read_key(table, environment)
        if read is None:
            continue
        digest, grant = read
        if digest in keys:
            table.wrong("hash", "stands here twice")
        strange = [name for name in grant.upstreams or () if name not in upstreams]
        if strange:
            table.wrong("upstreams", f"has unknown {', '.join(strange)}")
        keys[digest] = grant
    return keys
