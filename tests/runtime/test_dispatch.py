"""The one ASGI application sends each path to whom it belongs, and starts and ends the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, cast

from noburn.runtime.dispatch import Application, Dispatcher, Receive, Scope, Send


class RecordingGateway:
    """A gateway that answers /v1/preflight and writes down what happens to it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.events: list[str] = []
        self._fails = fails

    def handles(self, path: str, method: str) -> bool:
        return path == "/v1/preflight"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.events.append(scope["path"])

    async def startup(self) -> None:
        if self._fails:
            raise RuntimeError("no pepper")
        self.events.append("startup")

    async def shutdown(self) -> None:
        self.events.append("shutdown")


class Web:
    """A web application that writes down the paths it is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])


def play(application: Dispatcher, scope: Scope) -> list[MutableMapping[str, Any]]:
    """Runs one scope against the application; returns what it sent."""
    sent: list[MutableMapping[str, Any]] = []
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> MutableMapping[str, Any]:
        return next(events)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    return sent


class TestDispatcher:
    def test_sends_the_data_plane_to_the_gateway_and_the_rest_to_django(self) -> None:
        gateway, web = RecordingGateway(), Web()
        application = Dispatcher(gateway=gateway, web=web)
        for path in ("/v1/preflight", "/admin/", "/v1/budgets"):
            play(application, {"type": "http", "path": path, "method": "POST"})
        assert gateway.events == ["/v1/preflight"]
        assert web.paths == ["/admin/", "/v1/budgets"]

    def test_starts_and_ends_the_gateway_with_the_server(self) -> None:
        gateway = RecordingGateway()
        sent = play(Dispatcher(gateway=gateway, web=Web()), {"type": "lifespan"})
        assert [message["type"] for message in sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        assert gateway.events == ["startup", "shutdown"]

    def test_reports_why_it_cannot_start(self) -> None:
        sent = play(Dispatcher(gateway=RecordingGateway(fails=True), web=Web()), {"type": "lifespan"})
        assert sent == [{"type": "lifespan.startup.failed", "message": "no pepper"}]

    def test_does_not_start_the_gateway_when_the_boot_checks_refuse(self) -> None:
        gateway = RecordingGateway()

        async def boot() -> None:
            raise RuntimeError("Redis evicts")

        sent = play(Dispatcher(gateway=gateway, web=Web(), boot=boot), {"type": "lifespan"})
        assert sent == [{"type": "lifespan.startup.failed", "message": "Redis evicts"}]
        assert gateway.events == []

    def test_closes_a_websocket(self) -> None:
        sent = play(Dispatcher(gateway=RecordingGateway(), web=Web()), {"type": "websocket", "path": "/"})
        assert sent == [{"type": "websocket.close", "code": 1000}]

    def test_reads_no_endless_body_for_django(self) -> None:
        from django.core.asgi import get_asgi_application

        application = Dispatcher(gateway=RecordingGateway(), web=cast(Application, get_asgi_application()))
        sent: list[MutableMapping[str, Any]] = []
        asked = 0

        async def receive() -> MutableMapping[str, Any]:
            nonlocal asked
            asked += 1
            return {"type": "http.request", "body": b"x" * 500_000, "more_body": True}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/projects", "headers": [], "query_string": b""}
        asyncio.run(application(scope, receive, send))
        assert sent[0]["status"] == 413
        assert b"body-too-large" in sent[1]["body"]
        assert asked == 5
