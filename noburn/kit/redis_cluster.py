"""Which server of a Redis Cluster has which key. `redis-cluster://host:port,host:port` names a few of its servers.

Plain URLs (`redis://`, `rediss://`, `unix://`) are a cluster of one: every function here takes either kind.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import redis

SLOTS = 16_384
_SCHEMES = {"redis-cluster": "redis", "rediss-cluster": "rediss"}


class ClusterUnknown(redis.ConnectionError):
    """No server of the cluster says which of them has which slot."""


@dataclass(frozen=True, slots=True)
class Range:
    """Slots first to last, and the URLs of the servers that have them: the master first."""

    first: int
    last: int
    servers: tuple[str, ...]


def is_cluster(url: str) -> bool:
    """Whether a URL names a cluster."""
    return url.partition("://")[0] in _SCHEMES


def seeds_of(url: str) -> list[str]:
    """The plain URL of each server that a cluster's URL names, with its user, password and TLS. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        raise ValueError(f"not a cluster's URL: it begins with {scheme}://")
    login, at, servers = rest.rpartition("@")
    servers, _, more = servers.partition("/")
    names = [name.strip() for name in servers.split(",") if name.strip()]
    if more not in ("", "0") or not names or not all(_port(name) for name in names):
        raise ValueError(
            "a cluster's URL is redis-cluster://[user:password@]host:port,host:port, without a database"
        )
    return [f"{_SCHEMES[scheme]}://{login}{at}{name}" for name in names]


def _port(name: str) -> bool:
    host, _, port = name.rpartition(":")
    return bool(host) and port.isdigit()


def slot_of(key: str | bytes) -> int:
    """The hash slot of a key: that of its hash tag where it has one."""
    name = key.encode() if isinstance(key, str) else key
    opening = name.find(b"{")
    closing = name.find(b"}", opening + 1)
    return _slot(name[opening + 1 : closing] if opening >= 0 and closing > opening + 1 else name)


@lru_cache(maxsize=1024)
def _slot(tag: bytes) -> int:
    return crc_hqx(tag, 0) % SLOTS


def ranges_of(reply: Sequence[Sequence[Any]], *, asked: str) -> list[Range]:
    """What CLUSTER SLOTS answered, as URLs like `asked`, which is the server that answered."""
    return [
        Range(int(first), int(last), tuple(beside(asked, host, int(port)) for host, port, *_ in servers))
        for first, last, *servers in reply
    ]


def beside(asked: str, host: str | bytes | None, port: int) -> str:
    """The URL of a server that `asked` has told of. Without a name it means its own host, on another port."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    head, at, own = asked.rpartition("@") if "@" in asked else asked.rpartition("//")
    if name in ("", "?"):
        name = own.rpartition(":")[0]
    elif ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"{head}{at}{name}:{port}"


def ask_slots(url: str, *, seconds: float) -> list[Range]:
    """The slots of a cluster by the first of its named servers that answers. Raises redis.RedisError, ValueError."""
    said: list[str] = []
    for seed in seeds_of(url):
        try:
            with redis.Redis.from_url(seed, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
                return ranges_of(client.execute_command("CLUSTER", "SLOTS"), asked=seed)
        except redis.ResponseError:
            # It answers, and is no cluster.
            raise
        except redis.RedisError as error:
            said.append(str(error))
    raise ClusterUnknown("; ".join(said))


def masters_of(url: str, *, seconds: float) -> list[str]:
    """The URLs of the servers that take writes: one, or each master of a cluster. Raises redis.RedisError, ValueError."""
    if not is_cluster(url):
        return [url]
    return sorted({found.servers[0] for found in ask_slots(url, seconds=seconds)})


def servers_of(url: str, keys: Iterable[str], *, seconds: float) -> dict[str, str]:
    """The URL of the server that has each key. Raises redis.RedisError, ValueError."""
    if not is_cluster(url):
        return dict.fromkeys(keys, url)
    ranges = ask_slots(url, seconds=seconds)
    found = {}
    for key in keys:
        slot = slot_of(key)
        server = next((r.servers[0] for r in ranges if r.first <= slot <= r.last), None)
        if server is None:
            raise ClusterUnknown(f"no master has slot {slot}")
        found[key] = server
    return found
