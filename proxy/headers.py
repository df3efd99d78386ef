"""Headers of requests and answers: which are refused, which stay here, which are passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from noburn_sdk.attribution import HEADER_PREFIX

Headers = Sequence[tuple[bytes, bytes]]

OWN = HEADER_PREFIX.encode()
CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_REFRAMED = frozenset({b"host", b"content-length", b"expect", b"accept-encoding", b"forwarded", b"via"})
_METHODS = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
"""What is written anew: the message is read whole and framed again, so no length of the caller's is passed on."""
_ONCE = frozenset(
    {*CREDENTIALS, b"host", b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"}
)
_ACCOUNT = frozenset(
    {b"openai-organization", b"openai-project", b"cookie", b"x-goog-api-key", b"x-goog-user-project"}
)
"""What chooses an account or a project at the provider: no business of who has a virtual key."""


class BadHeaders(ValueError):
    """The request's headers are refused; the text says why."""


def checked(headers: Headers, bytes_max: int) -> dict[str, str]:
    """Returns the headers by name. Raises BadHeaders for what two servers may read in different ways."""
    counts = Counter(name for name, _ in headers)
    for name, count in counts.items():
        if count > 1 and (name in _ONCE or name.startswith(OWN)):
            raise BadHeaders(f"{_shown(name)} stands there {count} times")
    if sum(len(name) + len(value) + 4 for name, value in headers) > bytes_max:
        raise OverflowError
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if b"transfer-encoding" in counts and found["transfer-encoding"].strip().lower() != "chunked":
        raise BadHeaders("transfer-encoding must be chunked, or be left out")
    if b"content-length" in counts and b"transfer-encoding" in counts:
        raise BadHeaders("content-length and transfer-encoding exclude each other")
    if found.get("content-encoding", "identity").strip().lower() != "identity":
        raise BadHeaders("content-encoding: a compressed body cannot be estimated; send it plain")
    return found


def _shown(name: bytes) -> str:
    return name[:100].decode("latin-1")


def onward(
    headers: Headers, *, credential: Iterable[tuple[bytes, bytes]] | None
) -> list[tuple[bytes, bytes]]:
    """Returns what is passed on to the provider: with the caller's own credentials, or with this one instead."""
    dropped = _HOP | _REFRAMED | _METHODS | _listed(headers)
    if credential is not None:
        dropped = dropped | _ACCOUNT | frozenset(CREDENTIALS)
    kept = [(name, value) for name, value in headers if name not in dropped and not name.startswith(OWN)]
    return kept if credential is None else [*kept, *credential]


def back(headers: Iterable[tuple[bytes, bytes]], *, reframed: bool) -> list[tuple[bytes, bytes]]:
    """Returns what of an answer's headers is passed back; without its length where the body changes on the way."""
    given = [(name.lower(), value) for name, value in headers]
    dropped = _HOP | _listed(given) | (frozenset({b"content-length"}) if reframed else frozenset())
    return [(name, value) for name, value in given if name not in dropped and not name.startswith(OWN)]


def _listed(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Names that a Connection header makes hop-by-hop. What frames or authorizes a message is not to be named so."""
    listed = {
        one.strip().lower() for name, value in headers if name == b"connection" for one in value.split(b",")
    }
    return frozenset(listed)
