"""Requests to addresses that somebody else chose: webhooks today, anything of the kind tomorrow.

The name is resolved once, every address that it has must be public, and the connection goes to one of exactly
those: a name that answers differently the second time gains nothing. TLS still checks the certificate against
the name. No redirect is followed, no proxy of the environment is used, nothing is decompressed; time and the
size of what is read are bounded.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore
import httpx

from noburn.kit.addresses import Address, is_public, literal

URL_LENGTH_MAX: Final = 2048
ADDRESSES_MAX: Final = 16
_URL: Final = re.compile(r"(?P<scheme>https?)://[!-~]+", re.ASCII)
_BAD_IN_URL: Final = re.compile(r"[\\\"<>^`{|}]")
# Every dot is a must between two labels: were it optional, one name could be cut up in more ways than time lasts for.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\.?$){_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)
_OWN_NAMES: Final = ("localhost", "localdomain", "local", "internal", "intranet", "home.arpa")

Resolver = Callable[[str, int], Sequence[str]]
"""Returns every address of a name, as text. Raises OSError."""


class Refused(Exception):
    """The request is not made: the URL or an address behind it is not allowed. The text may be shown."""


class Failed(Exception):
    """The request was tried and got no whole answer in time. The text may be shown: it names no address."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take: seconds to connect and in all, bytes of the answer that are read."""

    connect_seconds: float = 3.0
    total_seconds: float = 10.0
    body_bytes_max: int = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart once, so that what is checked is what is called. `host` has no brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, the first bytes of the body, some headers in lower case, milliseconds taken."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    ms: int


def parse(url: str, *, allow_private: bool = False) -> Target:
    """Takes a URL apart. Raises Refused, with what to send instead, for one that will never be called.

    `allow_private` also allows plain http and addresses of one's own network. A name may still turn out to have
    a private address; that is found out at each call.
    """
    match = _URL.fullmatch(url)
    if match is None or len(url) > URL_LENGTH_MAX or _BAD_IN_URL.search(url):
        raise Refused(f"must be an absolute https URL of at most {URL_LENGTH_MAX} printable ASCII characters")
    if match["scheme"] != "https" and not allow_private:
        raise Refused("must begin with https://")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("must be a URL with a valid host and port") from None
    if "@" in parts.netloc:
        raise Refused("must not carry a user name or password")
    if parts.fragment or url.endswith("#"):
        raise Refused("must not have a fragment (#…)")
    host = (parts.hostname or "").lower()
    if port == 0:
        raise Refused("must be a URL with a valid host and port")
    address = _literal(parts.netloc, host)
    if address is None and not _NAME.fullmatch(host):
        raise Refused("must have a host of letters, digits, hyphens and dots")
    if not allow_private:
        _refuse_own(host, address)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


def _literal(netloc: str, host: str) -> Address | None:
    try:
        return ip_address(host) if netloc.startswith("[") else literal(host)
    except ValueError:
        raise Refused("must be a URL with a valid host and port") from None


def _refuse_own(host: str, address: Address | None) -> None:
    if address is not None:
        if not is_public(address):
            raise Refused("must not point to a private, local or reserved address")
        return
    name = host.rstrip(".")
    if "." not in name or any(name == own or name.endswith(f".{own}") for own in _OWN_NAMES):
        raise Refused("must not name a host of the local network")


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Asks the operating system."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()


# Resolving has no time-out of its own, so it is waited for; a thread that hangs is left to the resolver's. Many, made
# as needed: names whose servers never answer must not use up what others are resolved by.
_resolving = ThreadPoolExecutor(max_workers=512, thread_name_prefix="resolve")


class Outgoing:
    """Makes the requests. Safe to use from several threads: every request has a connection of its own."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        limits: Limits | None = None,
        resolver: Resolver = system_resolver,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._limits = limits or Limits()
        self._resolver = resolver
        self._ssl_context = ssl_context

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Posts once. Raises Refused or Failed; any status is an answer, also a redirect, which is not followed."""
        target = parse(url, allow_private=self._allow_private)
        began = time.monotonic()
        deadline = _Deadline(began + self._limits.total_seconds)
        addresses = self._addresses(target, deadline)
        sent = [
            (b"Host", target.authority.encode()),
            (b"Content-Length", str(len(body)).encode()),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        where = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path.encode(),
        )
        seconds = {"connect": self._limits.connect_seconds, "read": None, "write": None, "pool": None}
        pool = httpcore.ConnectionPool(
            ssl_context=self._ssl_context or _ssl_context(),
            network_backend=_Pinned(addresses, deadline),
            max_connections=1,
            retries=0,
        )
        try:
            with (
                pool,
                pool.stream(
                    "POST", where, headers=sent, content=body, extensions={"timeout": seconds}
                ) as got,
            ):
                read = self._read(got.iter_stream())
                told = {
                    name.decode("latin-1").lower(): value.decode("latin-1") for name, value in got.headers
                }
                return Answer(got.status, read, told, round((time.monotonic() - began) * 1000))
        except httpcore.TimeoutException:
            raise Failed(f"no answer within {self._limits.total_seconds:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            raise Failed(_why(error)) from None

    def _addresses(self, target: Target, deadline: _Deadline) -> list[str]:
        """Every address of the host; raises Refused unless all of them may be called, Failed when there is none."""
        resolving: Future[Sequence[str]] = _resolving.submit(self._resolver, target.host, target.port)
        try:
            found = resolving.result(timeout=deadline.left(self._limits.connect_seconds))
            addresses = [ip_address(text) for text in found[:ADDRESSES_MAX]]
        except (StillWaiting, httpcore.TimeoutException):
            resolving.cancel()
            raise Failed("the host's name was not resolved in time") from None
        except (OSError, ValueError):
            raise Failed("the host's name could not be resolved") from None
        if not addresses:
            raise Failed("the host's name has no address")
        if not self._allow_private and not all(is_public(address) for address in addresses):
            # All of them: one public address beside a private one would only choose between the two.
            raise Refused("the host's name has a private, local or reserved address")
        return [str(address) for address in addresses]

    def _read(self, chunks: Iterable[bytes]) -> bytes:
        """The first bytes of a body; the rest is left unread, and the connection is closed over it."""
        kept = bytearray()
        for chunk in chunks:
            kept += chunk[: self._limits.body_bytes_max - len(kept)]
            if len(kept) >= self._limits.body_bytes_max:
                break
        return bytes(kept)


def _why(error: Exception) -> str:
    """A reason without addresses, which would tell what a name resolves to from here."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore.ConnectError):
        return "the host does not accept connections"
    if isinstance(error, httpcore.ProtocolError):
        return "the answer was not HTTP"
    return "the connection broke"


class _Deadline:
    """One moment for everything: resolving, connecting, TLS, every read and write."""

    def __init__(self, at: float) -> None:
        self._at = at

    def left(self, wanted: float | None) -> float:
        """The seconds that may be waited, at most `wanted`. Raises httpcore's time-out when none are left."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole request took too long")
        return left if wanted is None else min(wanted, left)


class _Pinned(httpcore.NetworkBackend):
    """Connects to the checked addresses, whatever host it is asked for."""

    def __init__(self, addresses: Sequence[str], deadline: _Deadline) -> None:
        self._addresses, self._deadline = addresses, deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Tries the addresses in order until one accepts."""
        del host, local_address, socket_options  # The host was resolved already; the rest is the system's.
        for address in self._addresses[:-1]:
            try:
                return self._connect(address, port, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(self._addresses[-1], port, timeout)

    def _connect(self, address: str, port: int, timeout: float | None) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(address, port, timeout=self._deadline.left(timeout))
        return _Timed(stream, self._deadline)


class _Timed(httpcore.NetworkStream):
    """A stream whose every step ends by the deadline: a server that drips bytes does not prolong it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Reads what is there."""
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Writes all of it."""
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Begins TLS, with the name and not the address."""
        stream = self._stream.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks of a socket."""
        return self._stream.get_extra_info(info)
