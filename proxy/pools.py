"""Connections to upstreams: kept open, bounded in number and time, and never to an address of our own network."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import httpcore
from noburn_sdk.gate.connections import Connections
from noburn_sdk.gate.sockets import AsyncioBackend

from proxy.config import Limits
from proxy.upstream_config import Upstream

_CLOSED = tuple(
    ip_network(one)
    for one in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        *(
            "::/96",
            "::ffff:0:0/96",
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",
            "2001:db8::/32",
        ),
        *("2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
    )
)
"""Private, local and reserved ranges, and those that carry an IPv4 address inside."""
ADDRESSES_MAX = 16


class ForbiddenAddress(httpcore.ConnectError):
    """The upstream's name has an address that may not be called."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Says whether an address is one of the internet's."""
    return not any(address.version == one.version and address in one for one in _CLOSED)


class Checked(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks every address that it has, and connects to one of exactly those."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._inner = AsyncioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Tries the addresses in order until one accepts."""
        del local_address
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the upstream's name was not resolved in time") from None
        except OSError:
            raise httpcore.ConnectError("the upstream's name could not be resolved") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ADDRESSES_MAX]
        self._check(addresses)
        failed: Exception = httpcore.ConnectError("the upstream's name has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, None, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def _check(self, addresses: Sequence[str]) -> None:
        if not self._private and not all(is_public(ip_address(one.partition("%")[0])) for one in addresses):
            # All of them: one public address beside a private one would only choose between the two.
            raise ForbiddenAddress("the upstream's name has a private, local or reserved address")


class Pools:
    """The connections of one process."""

    def __init__(self, upstreams: Iterable[Upstream], limits: Limits) -> None:
        self._seconds = {
            "connect": limits.connect_seconds,
            "read": limits.read_seconds,
            "write": limits.write_seconds,
            "pool": limits.pool_seconds,
        }
        tls = ssl.create_default_context()
        self._pools = {
            one.name: Connections(
                scheme=one.scheme,
                host=one.host.strip("[]"),
                port=one.port,
                most=limits.connections_max,
                kept=limits.connections_kept,
                keep_seconds=limits.keep_seconds,
                tls=tls,
                backend=Checked(private=one.private),
            )
            for one in upstreams
        }

    async def send(
        self,
        upstream: Upstream,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        content: bytes,
    ) -> httpcore.Response:
        """Sends a request and returns its answer once its head is here. Raises httpcore's errors."""
        framed = [(b"host", upstream.authority.encode()), *headers, (b"accept-encoding", b"identity")]
        if content or method in ("POST", "PUT", "PATCH"):
            framed.append((b"content-length", str(len(content)).encode()))
        return await self._pools[upstream.name].send(method, target, framed, content, self._seconds)

    async def aclose(self) -> None:
        """Closes every connection."""
        for pool in self._pools.values():
            await pool.aclose()
