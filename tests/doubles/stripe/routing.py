"""Routes, and what a handler gets."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.doubles.stripe.failures import missing
from tests.doubles.stripe.world import Account, Object, World

Handler = Callable[["Call"], Object]


@dataclass(frozen=True)
class Route:
    """One operation: its method and its path as Stripe's document writes it."""

    method: str
    path: str
    handler: Handler
    pattern: re.Pattern[str]


ROUTES: list[Route] = []


@dataclass
class Call:
    """One request on its way through the double."""

    world: World
    account: Account
    params: dict[str, Any]
    args: dict[str, str]
    request_id: str
    idempotency_key: str | None = None

    @property
    def now(self) -> int:
        """The double's time."""
        return self.world.clock.now

    def found(self, kind: str, arg: str = "id") -> Object:
        """The object that the path names. Raises Failure."""
        name = self.args[arg]
        held = self.account.get(kind, name)
        if held is None:
            raise missing(kind, name, arg)
        return held

    def emit(self, kind: str, about: Object, before: dict[str, Any] | None = None) -> None:
        """Records an event of this request's."""
        from tests.doubles.stripe.events import emit

        emit(self.account, kind, about, before, request=(self.request_id, self.idempotency_key))


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Registers a handler under a path such as `/v1/customers/{customer}`."""

    def register(handler: Handler) -> Handler:
        pattern = re.compile("^" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path) + "$")
        ROUTES.append(Route(method, path, handler, pattern))
        return handler

    return register


def find(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Returns the route of a request and what its path names. A fixed word wins over a placeholder."""
    best: tuple[Route, dict[str, str]] | None = None
    for each in ROUTES:
        if each.method != method:
            continue
        fits = each.pattern.match(path)
        if fits and (best is None or len(fits.groupdict()) < len(best[1])):
            best = (each, fits.groupdict())
    return best
