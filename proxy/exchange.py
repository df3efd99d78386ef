"""One request and its answer, over ASGI: a body read within bounds, an answer sent to who takes it in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from proxy.answers import Refusal
from proxy.config import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Left(Exception):
    """The caller went away, or does not take its answer."""


class Broken(Exception):
    """The answer cannot be finished; ends the connection, so that nobody takes it for whole."""


@dataclass
class Noted:
    """What the log says of a request: names and numbers, never content."""

    id: str
    method: str
    path: str
    began: float = field(default_factory=time.monotonic)
    caller: str = ""
    upstream: str = ""
    endpoint: str = ""
    model: str = ""
    decision: str = ""
    reason: str = ""
    hold: str = ""
    attempts: int = 0
    status: int = 0
    ended: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    added: float = 0.0


class Room:
    """The bytes of all bodies that are in memory, and how many may be."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, size: int) -> None:
        """Takes room. Raises Refusal where there is none."""
        if size > self._left:
            raise Refusal(503, "too_many_calls", "The proxy has too much in hand at once.", retry_after=1.0)
        self._left -= size

    def give_back(self, size: int) -> None:
        """Returns what was taken."""
        self._left += size


async def read_body(receive: Receive, length: str | None, limits: Limits, room: Room, noted: Noted) -> bytes:
    """Reads a request's body into the room there is; `noted.bytes_in` says how much was taken of it.

    Raises Refusal for one too large, as soon as that is seen, or too slow; Left.
    """
    most = limits.body_bytes_max
    if length is not None and (not length.isdecimal() or int(length) > most):
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    until = time.monotonic() + limits.body_seconds
    while True:
        try:
            async with asyncio.timeout(min(limits.body_idle_seconds, until - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise Refusal(
                408, "too_slow", "The request's body took too long to arrive.", retry=False
            ) from None
        if message["type"] != "http.request":
            raise Left
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > most:
            raise _too_large(most)
        room.take(len(part))
        noted.bytes_in = size
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"The request is larger than {most} bytes.", retry=False)


class Reply:
    """The answer on its way to the caller."""

    def __init__(self, send: Send, noted: Noted, seconds: float) -> None:
        self._send = send
        self._noted = noted
        self._seconds = seconds
        self.started = False

    async def _give(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(message)
        except TimeoutError:
            raise Left from None

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Sends the head."""
        self.started = True
        self._noted.status = status
        headers.append((b"x-noburn-request-id", self._noted.id.encode()))
        await self._give({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Sends some of the body."""
        self._noted.bytes_out += len(data)
        await self._give({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Sends the last of the body."""
        self._noted.bytes_out += len(data)
        await self._give({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Sends an answer in one go."""
        headers.append((b"content-length", str(len(body)).encode()))
        await self.start(status, headers)
        await self.end(body)
