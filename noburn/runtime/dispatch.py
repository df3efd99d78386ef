"""One ASGI application of two: the gateway's paths go to the gateway, everything else to Django."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from noburn.kit.problems import CONTENT_TYPE, problem, to_bytes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


WEB_BODY_MAX: Final = 2_000_000
"""The most bytes of body that Django is given: it would spool any number of them to disk before a view sees one."""


class Gateway(Protocol):
    """What the dispatcher needs of the data plane."""

    def handles(self, path: str, method: str) -> bool: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...


class Dispatcher:
    """The ASGI application. `boot` runs before the gateway starts and raises when noburn must not serve."""

    def __init__(
        self, *, gateway: Gateway, web: Application, boot: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._gateway = gateway
        self._web = web
        self._boot = boot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            if self._gateway.handles(scope["path"], scope["method"]):
                await self._gateway(scope, receive, send)
            else:
                await self._serve_web(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve_web(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # As if the client had gone: Django then lets go of what it read, and answers nothing.
            return message if size <= WEB_BODY_MAX else {"type": "http.disconnect"}

        await self._web(scope, bounded, send)
        if size > WEB_BODY_MAX:
            await _refuse_body(send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if self._boot is not None:
                await self._boot()
            await self._gateway.startup()
        except Exception as problem:
            await send({"type": "lifespan.startup.failed", "message": str(problem)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self._gateway.shutdown()
        finally:
            await send({"type": "lifespan.shutdown.complete"})


async def _refuse_body(send: Send) -> None:
    request_id = secrets.token_hex(16)
    detail = f"At most {WEB_BODY_MAX} bytes of body are read here."
    body = to_bytes(problem("body-too-large", detail), request_id)
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
