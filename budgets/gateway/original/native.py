"""The gateway's own requests, made from within: what the original client asks is decided and settled by them alone."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from budgets.domain.policy import KeyRecord
from budgets.domain.pricing_book import AmbiguousProvider, Model, UnknownModel
from budgets.domain.pricing_rates import Rates
from budgets.gateway.request import Request
from budgets.services.dataplane import DataPlane
from budgets.services.snapshots import Snapshot
from noburn.kit.problems import ProblemError, problem

REROUTED: Final = ""
"""In the place of a model: checks of calls for which noburn chose another one than was asked for."""

Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]
Handler = Callable[[Request], Awaitable[Answer]]
AnyKey = Callable[[Request], Awaitable[tuple[Snapshot, KeyRecord]]]

_encode = msgspec.json.Encoder().encode


class LiveKey(Protocol):
    """Finds the tenant and the live key of a request. Raises ProblemError."""

    def __call__(self, request: Request, *, scope: str) -> Awaitable[tuple[Snapshot, KeyRecord]]: ...


@dataclass(frozen=True, slots=True)
class Native:
    """What is used of the gateway."""

    plane: DataPlane
    preflight: Handler
    settle: Handler
    void: Handler
    start_run: Handler
    close_run: Callable[[str, str, Request], Awaitable[Answer]]
    any_key: AnyKey
    live_key: LiveKey

    async def ask(
        self, handler: Handler, request: Request, body: dict[str, Any], idempotency_key: str
    ) -> dict[str, Any]:
        """Makes a request as an SDK would, with the same API key. Raises what the handler raises."""
        headers = [
            (b"authorization", request.headers.get(b"authorization", b"")),
            (b"content-type", b"application/json"),
            (b"idempotency-key", idempotency_key.encode()),
        ]
        scope = {"path": request.path, "query_string": b"", "headers": headers}
        _, answer, _ = await handler(Request(scope, _encode(body), request.id))
        told: dict[str, Any] = msgspec.json.decode(answer)
        return told

    async def project(self, name: str, snapshot: Snapshot, key: KeyRecord) -> tuple[Snapshot, str]:
        """The project that a client names; the policy is read anew for one that it does not know. Raises ProblemError."""
        if name not in snapshot.named:
            snapshot = await self.plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot
        return snapshot, project_of(name, snapshot, key.project)

    def rates(self, snapshot: Snapshot, model: str, *, provider: str = "", now: datetime) -> Rates | None:
        """What a model costs the tenant; of several sellers, of whom the client names none, the dearest is meant."""
        book, prices = self.plane.books.book, snapshot.prices

        def find(seller: str | None) -> Rates | UnknownModel | AmbiguousProvider:
            if prices is None:
                return book.resolve(seller, model, now)
            return prices.resolve(book, seller, model, now)

        found = find(provider or None)
        if isinstance(found, AmbiguousProvider):
            each = [rates for seller in found.providers if isinstance(rates := find(seller), Rates)]
            # Of equally dear ones the last by name, so that it does not depend on the book's order.
            return max(each, key=lambda rates: (per_token(rates), rates.provider), default=None)
        return found if isinstance(found, Rates) else None

    def group(self, *, project: str, user: str, run: str, model: str) -> str:
        """What a check and its event have in common, as far as both say it; a model by its name in the price book."""
        found = self.plane.books.book.find(None, model)
        name = f"{found.provider}/{found.entry.model}" if isinstance(found, Model) else model.lower()
        return digest_of(project, user, run, name)


def per_token(rates: Rates) -> tuple[int, int]:
    """Pico-USD for a token in and for one out, before any tier; nothing for what has no price."""
    taken_in, taken_out = (rates.units.get(unit) for unit in ("input_tokens", "output_tokens"))
    return taken_in[0][1] if taken_in else 0, taken_out[0][1] if taken_out else 0


def digest_of(*parts: str) -> str:
    """A short name for texts that belong together."""
    return hashlib.blake2b(_encode(parts), digest_size=16).hexdigest()


def answered(value: object, status: int = 200) -> Answer:
    """An answer in JSON."""
    return status, _encode(value), [(b"content-type", b"application/json")]


def project_of(name: str, snapshot: Snapshot, bound_to: str) -> str:
    """The project that a client names, by its name or its id; `bound_to` is the API key's. Raises ProblemError.

    The client takes 403 alone, beside 401, for a mistake of its user's: after any other failure it lets calls through.
    """
    project = snapshot.named.get(name)
    if project is None:
        detail = f"This API key's tenant has no project {name!r}. Send a project's name or id as project_id."
        raise ProblemError(problem("forbidden-scope", detail))
    if bound_to and project != bound_to:
        raise ProblemError(problem("forbidden-scope", f"This API key belongs to project {bound_to!r}."))
    return project
