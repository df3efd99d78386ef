"""The whole application on a socket: the gateway, and Django beside it for what is the management's.

Django's applications are loaded after this file, so it imports what needs them late.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.doubles.provider import ProviderDouble

if TYPE_CHECKING:
    from tests.sdk.plane import Plane, Served
    from tests.support.world import Account, World


class Whole:
    """What noburn.asgi serves, on this test process's servers."""

    def __init__(self) -> None:
        from django.core.asgi import get_asgi_application

        from budgets.gateway.app import GatewayApp
        from noburn.runtime.dispatch import Dispatcher
        from tests.support.world import gateway_config

        self._gateway = GatewayApp(gateway_config())
        self.startup, self.shutdown = self._gateway.startup, self._gateway.shutdown
        self._dispatcher = Dispatcher(gateway=self._gateway, web=get_asgi_application())  # type: ignore[arg-type]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._dispatcher(scope, receive, send)


def close_connections(**_: Any) -> None:
    """Closes the connections of a request's thread, which ends with it."""
    from django.db import connections

    connections.close_all()


@pytest.fixture(scope="module")
def served(_world: World) -> Iterator[Served]:
    from django.core.signals import request_finished

    from tests.sdk.plane import Served

    found = Served(Whole())
    request_finished.connect(close_connections)
    yield found
    request_finished.disconnect(close_connections)
    found.close()


@pytest.fixture
def plane(served: Served, alice: Account) -> Plane:
    """A tenant of its own at the running noburn."""
    from tests.sdk.plane import Plane

    return Plane(served.url, alice)


@pytest.fixture(scope="module")
def running_double() -> Iterator[ProviderDouble]:
    with ProviderDouble() as double:
        yield double


@pytest.fixture
def double(running_double: ProviderDouble) -> ProviderDouble:
    running_double.reset()
    return running_double
