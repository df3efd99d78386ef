"""The users of the counters' Redis: gateway, controller and management, each with the few commands that it sends.

A script runs with the rights of whoever calls it, so each user has the commands of the scripts as well, on keys of
noburn's own alone. None may EVAL, and only the controller may SCRIPT LOAD: the epoch fence is that nobody else loads a
script (docs/adr/0002). None may FLUSHALL, CONFIG, KEYS, DEBUG or change users. For Redis 7.0 and Valkey, alone or in a
cluster.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

import redis

from noburn.kit.redis_cluster import beside, is_cluster, seeds_of

GATEWAY, CONTROL, MANAGEMENT = "noburn_gateway", "noburn_control", "noburn_management"
VARIABLES: Final[Mapping[str, str]] = {
    "REDIS_URL": MANAGEMENT,
    "REDIS_GATEWAY_URL": GATEWAY,
    "REDIS_CONTROL_URL": CONTROL,
}
"""Which setting names which user."""

KEYS: Final = "~{nb*"
"""Every key of ours begins with its shard's hash tag: {nb00} to {nb63}."""

_DATA: Final = (
    *(
        "del",
        "exists",
        "expire",
        "get",
        "hdel",
        "hexists",
        "hget",
        "hgetall",
        "hincrby",
        "hlen",
        "hmget",
        "hset",
    ),
    *(
        "hsetnx",
        "incrby",
        "lindex",
        "lpush",
        "ltrim",
        "pexpire",
        "pexpireat",
        "set",
        "zadd",
        "zcard",
        "zrange",
        "zrem",
    ),
)
# SELECT is sent for an address that names a database, ASKING and CLUSTER SLOTS in a cluster.
_CONNECTION: Final = ("asking", "cluster|slots", "ping", "select", "time")
_RULES: Final[Mapping[str, tuple[str, ...]]] = {
    GATEWAY: (*_CONNECTION, "evalsha", *_DATA),
    CONTROL: (*_CONNECTION, "evalsha", *_DATA, "info", "scan", "script|load", "unlink"),
    MANAGEMENT: (*_CONNECTION, "evalsha", *_DATA, "info", "scan", "unlink"),
}

SECONDS: Final = 5.0


def rules_of(user: str) -> list[str]:
    """What ACL SETUSER says of a user's rights, without its password."""
    return ["reset", "on", KEYS, "-@all", *(f"+{command}" for command in _RULES[user])]


def acl_file() -> str:
    """The ACL file of an embedded server: its socket lets nobody else in, so no user has a password.

    `default` is what a person has who comes by the socket; noburn itself never is.
    """
    lines = ["user default on nopass sanitize-payload ~* &* +@all"]
    # `reset` is no word of a file, where each user begins from nothing anyway.
    lines += [f"user {user} {' '.join(['nopass', *rules_of(user)[1:]])}" for user in _RULES]
    return "\n".join(lines) + "\n"


def servers_behind(url: str) -> list[str]:
    """Every server that keeps its own list of users: the one, or all masters and replicas of a cluster.

    Raises redis.RedisError, ValueError.
    """
    if not is_cluster(url):
        return [url]
    # Not by its slots: those leave out a replica that is still being filled, and may be a master tomorrow.
    seed = seeds_of(url)[0]
    with redis.Redis.from_url(
        seed, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, decode_responses=True
    ) as client:
        lines = str(client.execute_command("CLUSTER", "NODES")).splitlines()
    found = set()
    for address, flags in (line.split()[1:3] for line in lines):
        host, _, port = address.partition("@")[0].rpartition(":")
        if "noaddr" not in flags.split(","):
            found.add(beside(seed, host, int(port)))
    return sorted(found)


def make_users(urls: list[str], passwords: Mapping[str, str], *, say: Callable[[str], None]) -> None:
    """Makes or corrects the users on each server of `urls`, which name an administrator. Raises redis.RedisError.

    Servers forget users at a restart unless they have an ACL file, and replicas do not learn of them: `say` is told of
    each server that keeps none.
    """
    for server in [server for url in urls for server in servers_behind(url)]:
        with redis.Redis.from_url(
            server, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, decode_responses=True
        ) as client:
            for user, password in passwords.items():
                # One command each: whoever is connected as the user keeps working throughout.
                client.execute_command("ACL", "SETUSER", user, *rules_of(user), f">{password}")
            try:
                client.execute_command("ACL", "SAVE")
            except redis.ResponseError:
                say(server.rpartition("@")[2].rpartition("//")[2])


def fresh_passwords() -> dict[str, str]:
    """A new password for each user."""
    return {user: secrets.token_urlsafe(32) for user in _RULES}


def url_of(url: str, user: str, password: str) -> str:
    """The address of `url` with another user."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user)}:{quote(password)}@{rest.rpartition('@')[2]}"


PROBES: Final[Mapping[str, tuple[str, ...]]] = {
    # Each does nothing where it is allowed: an option that there is not, a question, a script that returns 1.
    "FLUSHALL": ("FLUSHALL", "NOTHING"),
    "CONFIG": ("CONFIG", "GET", "noburn-probe"),
    "EVAL": ("EVAL", "return 1", "0"),
    "SCRIPT LOAD": ("SCRIPT", "LOAD", "return 1"),
    "ACL": ("ACL", "LIST"),
}


def excesses(url: str, *, allowed: tuple[str, ...] = ()) -> list[str]:
    """Which commands that noburn never sends the user of `url` may send all the same. Raises redis.RedisError."""
    found = []
    with redis.Redis.from_url(url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS) as client:
        for name, command in PROBES.items():
            if name in allowed:
                continue
            try:
                client.execute_command(*command)
            except redis.exceptions.NoPermissionError:
                continue
            except redis.ResponseError:
                pass  # It was let through, and then not understood.
            found.append(name)
    return found
