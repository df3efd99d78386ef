"""One ASGI application of two: the gateway's paths go to the gateway, everything else to Django."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gateway(Protocol):
    """What the dispatcher needs of the data plane."""

    def handles(self, path: str) -> bool: ...

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
            if self._gateway.handles(scope["path"]):
                await self._gateway(scope, receive, send)
            else:
                await self._web(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

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
