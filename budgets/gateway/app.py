"""The gateway: an ASGI application for the data plane, without the ORM and without Django's request handling."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any, Final
from uuid import UUID

import msgspec

from budgets.domain.demands import TooManyBudgets
from budgets.domain.guards import Trip
from budgets.domain.policy import KeyRecord
from budgets.domain.pricing_list import price_list_etag
from budgets.gateway import reads
from budgets.gateway.admission import Refusal, Repriced, admit, stands_in_the_way
from budgets.gateway.config import GatewayConfig
from budgets.gateway.decisions import record
from budgets.gateway.leases import LeaseEndpoint
from budgets.gateway.original.native import Native
from budgets.gateway.original.routes import OriginalClient
from budgets.gateway.preflight import allow_answer, call_of, deny_answer, price, refusal, unpriced
from budgets.gateway.request import Receive, Request, Scope, read_body
from budgets.gateway.routing import (
    BLOCKED,
    Choice,
    Tried,
    Tries,
    blocked_answer,
    choose,
    downgrade_of,
    model_of,
    other_model,
    routed,
)
from budgets.gateway.runs import RUNS_PATH, close_run, closing_of, handles_run, start_run
from budgets.gateway.settle import Settlements
from budgets.gateway.turnstile import Turnstile
from budgets.gateway.wire import Extend, Preflight, ignored, read
from budgets.services.dataplane import CountersUnavailable, DataPlane, StorageUnavailable
from budgets.services.guards import Stopped
from budgets.services.holds import (
    Call,
    EpochClosed,
    HoldGone,
    HoldTooLong,
    IdempotencyConflict,
    Placed,
    Refused,
    Standing,
    TooManySubjects,
)
from budgets.services.resolutions import Overloaded
from budgets.services.snapshots import Snapshot
from budgets.services.waiting import TooManyWaiters
from noburn.kit import ids
from noburn.kit.clock import wire_time
from noburn.kit.problems import ProblemError, problem, to_bytes
from noburn.kit.rates import headers_of
from tenants.domain import api_keys

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_MAX: Final = 65_536
BATCH_BODY_MAX: Final = 4_194_304
DIGESTS_MAX: Final = 4096
PRICINGS_MAX: Final = 4
"""How often a call is priced anew because the tenant's prices changed under it."""

_encode = msgspec.json.Encoder().encode


Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]
Handler = Callable[[Request], Awaitable[Answer]]


def _body_max(path: str) -> int:
    return BATCH_BODY_MAX if path == "/v1/settle/batch" or path.startswith("/v1/leases/") else BODY_MAX


def _json(value: object, status: int = 200) -> Answer:
    return status, _encode(value), [(b"content-type", b"application/json")]


class GatewayApp:
    """Serves the data plane. Call `startup` before the first request and `shutdown` after the last."""

    PATHS: Final = frozenset(
        {
            "/v1/preflight",
            "/v1/settle",
            "/v1/settle/batch",
            "/v1/void",
            "/v1/leases",
            "/v1/remaining",
            "/v1/prices",
            RUNS_PATH,
            "/healthz",
            "/readyz",
        }
    )

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        # Unlike random ids, a count costs no system call; the process's part tells gateways apart.
        self._process_id, self._served = secrets.token_hex(5), 0
        self._plane = DataPlane(
            database_url=config.database_url,
            redis_url=config.redis_url,
            pepper=config.derives_ids,
            signing_keys=config.signing_keys,
            signing_kid=config.signing_kid,
        )
        # The same few keys come with every call; what a key's text hashes to is remembered for the newest of them.
        peppers = tuple(filter(None, (config.pepper, config.pepper_previous)))
        self._digests = lru_cache(maxsize=DIGESTS_MAX)(lambda text: api_keys.digests(peppers, text))
        self._turnstile = Turnstile(config)
        self._settlements = Settlements(
            self._plane.keyring, self._plane.resolutions, self._plane.snapshots, config.base_url
        )
        self._leases = LeaseEndpoint(self._plane, self._settlements)
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/preflight"): self._preflight,
            ("POST", "/v1/settle"): self._settle,
            ("POST", "/v1/settle/batch"): self._settle_batch,
            ("POST", "/v1/void"): self._void,
            ("POST", "/v1/leases"): self._lease,
            ("GET", "/v1/remaining"): self._remaining,
            ("GET", "/v1/prices"): self._prices,
            ("GET", "/healthz"): self._healthz,
            ("GET", "/readyz"): self._readyz,
            ("POST", RUNS_PATH): self._start_run,
        }
        self._original = OriginalClient(
            Native(
                plane=self._plane,
                preflight=self._preflight,
                settle=self._settle,
                void=self._void,
                start_run=self._start_run,
                close_run=self._close_run,
                any_key=self._any_key,
                live_key=self._uncounted_key,
            )
        )

    def handles(self, path: str, method: str = "GET") -> bool:
        """Whether a path belongs to the gateway; of runs by the method, since the management API lists them."""
        if path == RUNS_PATH or path.startswith(f"{RUNS_PATH}/"):
            return handles_run(path, method)
        if path in self.PATHS or path.startswith(("/v1/holds/", "/v1/leases/")):
            return True
        return self._original.handles(path)

    async def startup(self) -> None:
        """Connects and loads what every decision needs."""
        await self._plane.start()
        # What is loaded now (code, price book) stays; the collector need not walk it again, nor run for every few
        # hundred of a request's short-lived objects.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    async def shutdown(self) -> None:
        """Commits what is queued and closes every connection."""
        await self._plane.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._served += 1
        request_id = f"{self._process_id}{self._served:010x}"
        try:
            status, body, headers = await self._answer(scope, receive, request_id)
        except ProblemError as error:
            status, body = (
                error.problem.status,
                to_bytes(error.problem, request_id, base_url=self._config.base_url),
            )
            headers = [(b"content-type", b"application/problem+json")]
            if allowed := error.problem.extra.get("allowed"):
                headers.append((b"allow", ", ".join(allowed).encode()))
            if status == 503:
                headers.append((b"retry-after", b"1"))
            elif status == 429:
                told = headers_of(error.problem)
                headers += [(name.lower().encode(), value.encode()) for name, value in told.items()]
        headers.append((b"content-length", str(len(body)).encode()))
        headers.append((b"x-request-id", request_id.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        method, path = scope["method"], scope["path"]
        handler = self._routes.get((method, path))
        if handler is None:
            of = self._original.handler if self._original.handles(path) else self._other
            handler = of(method, path)
        body = await read_body(receive, _body_max(path))
        try:
            return await handler(Request(scope, body, request_id))
        except StorageUnavailable as error:
            detail = "The ledger cannot be reached; nothing was recorded. Repeat the same request."
            raise ProblemError(problem("storage-unavailable", detail=detail)) from error
        except CountersUnavailable as error:
            raise ProblemError(
                problem("counters-unavailable", detail=f"No decision can be made now: {error}.")
            ) from error
        except (TooManyWaiters, Overloaded) as error:
            raise ProblemError(problem("counters-unavailable", detail=f"Too busy: {error}.")) from error
        except ProblemError:
            raise
        except Exception:
            log.exception("request %s failed", request_id)
            raise ProblemError(
                problem("internal-error", detail="Something is wrong on our side; it was logged.")
            ) from None

    def _other(self, method: str, path: str) -> Handler:
        if method == "POST" and (closing := closing_of(path)) is not None:
            return partial(self._close_run, *closing)
        if path.startswith("/v1/holds/") and path.endswith("/extend"):
            if method == "POST":
                return self._extend
        elif path.startswith("/v1/leases/") and path.endswith(("/report", "/close")):
            if method == "POST":
                return self._lease_report
        elif path not in self.PATHS:
            raise ProblemError(problem("not-found", detail=f"There is no {path}."))
        allowed = sorted({m for m, p in self._routes if p == path} or {"POST"})
        detail = f"{path} takes {', '.join(allowed)}, not {method}."
        raise ProblemError(problem("method-not-allowed", detail, allowed=allowed))

    async def _any_key(self, request: Request) -> tuple[Snapshot, KeyRecord]:
        """The tenant and key of a request, revoked and expired keys included. Raises ProblemError."""
        text = request.headers.get(b"authorization", b"").decode("latin-1")
        scheme, _, secret = text.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise ProblemError(
                problem("unauthorized", detail="Send the API key as `Authorization: Bearer nb_live_…`.")
            )
        try:
            digests = self._digests(secret)
        except api_keys.BadKey as error:
            raise ProblemError(problem("unauthorized", detail=f"This is not an API key: {error}.")) from error
        found = self._plane.snapshots.held(digests)
        if found is not None:
            return found
        # Known keys pass whatever else comes from their address: an old key in a loop, or guesses by the hundred.
        if not self._plane.snapshots.missing(digests):
            self._turnstile.looks_up(request)
            for digest in digests:
                found = await self._plane.snapshots.by_key(digest)
                if found is not None:
                    return found
        self._turnstile.guessed(request)
        raise ProblemError(problem("unauthorized", detail="No tenant knows this API key."))

    async def _settling(self, request: Request) -> UUID:
        """The tenant of a settlement: any key of it will do, since the authorization says what may be settled."""
        snapshot, _ = await self._any_key(request)
        _ = request.idempotency_key
        return snapshot.policy.tenant_id

    async def _fresh_key(self, request: Request, *, scope: str) -> tuple[Snapshot, KeyRecord]:
        """As `_key`, for what no script looks at again: a revocation elsewhere holds for the very next request."""
        snapshot, record = await self._key(request, scope=scope)
        return await self._renewed(snapshot, record, scope)

    async def _uncounted_key(self, request: Request, *, scope: str) -> tuple[Snapshot, KeyRecord]:
        """As `_fresh_key`, and counts for no rate: what asks in turn is counted there, and what was spent never is."""
        snapshot, record = await self._any_key(request)
        return await self._renewed(snapshot, self._live(record, scope), scope)

    async def _renewed(self, snapshot: Snapshot, record: KeyRecord, scope: str) -> tuple[Snapshot, KeyRecord]:
        newest = await self._plane.snapshots.newest(snapshot.policy.tenant_id)
        if newest is None or newest is snapshot:
            return snapshot, record
        current = newest.keys.get(record.digest)
        if current is None:
            raise ProblemError(problem("unauthorized", detail="No tenant knows this API key any more."))
        return newest, self._live(current, scope)

    async def _key(self, request: Request, *, scope: str) -> tuple[Snapshot, KeyRecord]:
        """The tenant and key of a request that needs a live key with a scope. Raises ProblemError."""
        snapshot, record = await self._any_key(request)
        self._live(record, scope)
        # Here and not in `_any_key`: what was spent is recorded, however often somebody says it.
        self._turnstile.passes(snapshot.policy, record)
        return snapshot, record

    @staticmethod
    def _live(record: KeyRecord, scope: str) -> KeyRecord:
        if record.revoked_at is not None:
            raise ProblemError(
                problem(
                    "unauthorized", detail=f"This API key was revoked at {record.revoked_at.isoformat()}."
                )
            )
        if record.expires_at is not None and record.expires_at <= datetime.now(UTC):
            raise ProblemError(
                problem("unauthorized", detail=f"This API key expired at {record.expires_at.isoformat()}.")
            )
        if scope not in record.scopes:
            raise ProblemError(problem("forbidden-scope", detail=f"This API key lacks the scope {scope!r}."))
        return record

    async def _preflight(self, request: Request) -> Answer:
        snapshot, key = await self._key(request, scope="preflight")
        for _ in range(PRICINGS_MAX):
            try:
                return await self._decide(request, snapshot, key)
            except Repriced as newer:
                snapshot = newer.snapshot
        raise CountersUnavailable("the tenant's prices did not come to rest; try again")

    async def _lease(self, request: Request) -> Answer:
        snapshot, key = await self._key(request, scope="preflight")
        idempotency_key = request.idempotency_key
        for _ in range(PRICINGS_MAX):
            try:
                return _json(await self._leases.open(request.body, idempotency_key, snapshot, key))
            except Repriced as newer:
                snapshot = newer.snapshot
            except TooManyBudgets as error:
                raise ProblemError(problem("too-many-budgets", detail=f"{error}.")) from error
            except TooManySubjects as error:
                raise ProblemError(problem("too-many-subjects", detail=f"{error}.")) from error
            except IdempotencyConflict as error:
                raise ProblemError(problem("idempotency-conflict", detail=f"{error}.")) from error
        raise CountersUnavailable("the tenant's prices did not come to rest; try again")

    async def _lease_report(self, request: Request) -> Answer:
        tenant_id = await self._settling(request)
        lease_id, _, word = request.path.removeprefix("/v1/leases/").partition("/")
        return _json(
            await self._leases.report(request.body, tenant_id, lease_id, request.id, close=word == "close")
        )

    async def _decide(self, request: Request, snapshot: Snapshot, key: KeyRecord) -> Answer:
        _ = request.idempotency_key
        wanted, unknown = read(request.body, Preflight)
        tries = Tries(wanted, ignored(unknown))
        for attempt in tries:
            tries.came(await self._try(request, snapshot, key, attempt, tries))
        return _json(tries.answer)

    async def _try(
        self, request: Request, snapshot: Snapshot, key: KeyRecord, wanted: Preflight, tries: Tries
    ) -> Tried:
        """One model of a request: priced, put to the rules, and to the budgets; logged if it is what is answered."""
        idempotency_key, warnings = request.idempotency_key, tries.warnings
        now, book = datetime.now(UTC), self._plane.books.book
        if stands_in_the_way(snapshot, wanted, key):
            snapshot = await self._plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot
        priced = price(wanted, snapshot=snapshot, book=book, now=now)
        if priced is None:
            # No script will tell that this policy is an old one, so it is asked for.
            snapshot = await self._plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot
            priced = price(wanted, snapshot=snapshot, book=book, now=now)
        if priced is None:
            log_it = partial(self._log, wanted, snapshot, key, reason="price_unknown")
            return Tried(unpriced(wanted, book, now), log_it)
        call, more = call_of(
            priced, body=request.body, idempotency_key=idempotency_key, snapshot=snapshot, key=key
        )
        choice = None
        if snapshot.policy.routing and not tries.downgrading:
            choice = await choose(self._plane, priced, call, snapshot=snapshot, book=book, now=now)
            if choice.blocked:
                # No script will tell that these rules are old ones, so it is asked for.
                newest = await self._plane.snapshots.newest(snapshot.policy.tenant_id) or snapshot
                if newest.policy.routing != snapshot.policy.routing:
                    raise Repriced(newest)
                log_it = partial(
                    self._log, wanted, snapshot, key, call, reason=BLOCKED, choice=choice, tries=tries
                )
                return Tried(blocked_answer(choice, wanted), log_it)
            if choice.model != wanted.model:
                wanted = other_model(wanted, choice.model, priced.provider)
                priced = price(wanted, snapshot=snapshot, book=book, now=now) or priced
                call, more = call_of(
                    priced, body=request.body, idempotency_key=idempotency_key, snapshot=snapshot, key=key
                )
            more = more + choice.warnings()
        customer, started = call.attribution.customer, time.monotonic()
        try:
            answer = await self._plane.holds.place(
                snapshot.policy.tenant_id,
                call,
                admit=lambda current: admit(current, key, customer, snapshot, now),
            )
        except TooManyBudgets as error:
            raise ProblemError(problem("too-many-budgets", detail=f"{error}.")) from error
        except TooManySubjects as error:
            raise ProblemError(problem("too-many-subjects", detail=f"{error}.")) from error
        except IdempotencyConflict as error:
            raise ProblemError(problem("idempotency-conflict", detail=f"{error}.")) from error
        except Refusal as stop:
            log_it = partial(self._log, wanted, snapshot, key, call, started, reason=stop.reason)
            return Tried(refusal(stop.reason, str(stop)), log_it, final=True)
        except Stopped as stop:
            log_it = partial(
                self._log, wanted, snapshot, key, call, started, reason=stop.reason, trips=stop.trips
            )
            fields = {**stop.fields, "warnings": warnings + more}
            return Tried(refusal(stop.reason, str(stop), fields), log_it, final=True)
        log_it = partial(
            self._log,
            wanted,
            snapshot,
            key,
            call,
            started,
            answer,
            choice=choice,
            tries=tries,
            by=tries.downgraded_by,
        )
        if isinstance(answer, Placed):
            self._plane.subjects.seen(snapshot.policy.tenant_id, customer, call.attribution.user)
            shown = allow_answer(answer, model=model_of(answer, wanted), warnings=warnings + more)
            return Tried(tries.explained(shown, choice), log_it, final=True)
        shown = deny_answer(answer, priced, book=book, now=now, warnings=warnings, prices=snapshot.prices)
        return Tried(tries.explained(shown, choice), log_it, downgrade=downgrade_of(answer, wanted, priced))

    def _log(
        self,
        wanted: Preflight,
        snapshot: Snapshot,
        key: KeyRecord,
        call: Call | None = None,
        started: float = 0.0,
        answer: Placed | Refused | None = None,
        reason: str | None = None,
        trips: tuple[Trip, ...] = (),
        choice: Choice | None = None,
        tries: Tries | None = None,
        by: Standing | None = None,
    ) -> None:
        """Notes a decision; a dry run decides nothing, and a replay nothing new."""
        if wanted.dry_run or (type(answer) is Placed and answer.replayed):
            return
        with self._plane.decisions.missing(snapshot.policy.tenant_id):
            # Placing may have read a newer policy than the request came in under.
            current = self._plane.snapshots.get(snapshot.policy.tenant_id) or snapshot
            waited_ms = int((time.monotonic() - started) * 1000) if wanted.wait_ms and call else 0
            self._plane.decisions.note(
                record(
                    wanted,
                    snapshot=current,
                    key=key,
                    call=call,
                    answer=answer,
                    reason=reason,
                    waited_ms=waited_ms,
                    trips=trips,
                    routed=routed(
                        wanted,
                        choice,
                        asked=tries.wanted.model if tries is not None else wanted.model,
                        downgraded_by=by,
                    ),
                )
            )

    async def _settle(self, request: Request) -> Answer:
        tenant_id = await self._settling(request)
        return _json(await self._settlements.settle(request.body, tenant_id, self._plane.books.book))

    async def _settle_batch(self, request: Request) -> Answer:
        tenant_id = await self._settling(request)
        return _json(
            await self._settlements.batch(request.body, tenant_id, self._plane.books.book, request.id)
        )

    async def _void(self, request: Request) -> Answer:
        tenant_id = await self._settling(request)
        return _json(await self._settlements.void(request.body, tenant_id))

    async def _extend(self, request: Request) -> Answer:
        snapshot, _ = await self._fresh_key(request, scope="preflight")
        _ = request.idempotency_key
        wanted, _unknown = read(request.body, Extend)
        hold = self._settlements.hold(wanted.authorization, snapshot.policy.tenant_id)
        hold_id = request.path.removeprefix("/v1/holds/").removesuffix("/extend")
        if hold_id != ids.encode("hold", hold.body.hold_id):
            raise ProblemError(problem("not-found", detail="The authorization is not of this hold."))
        try:
            longer, token = await self._plane.holds.extend(hold, ttl_ms=wanted.ttl_seconds * 1000)
        except EpochClosed as error:
            raise ProblemError(problem("epoch-closed", detail=f"{error}.")) from error
        except HoldGone as error:
            raise ProblemError(problem("hold-not-found", detail=f"{error}.")) from error
        except HoldTooLong as error:
            raise ProblemError(problem("hold-too-long", detail=f"{error}.")) from error
        return _json(
            {"authorization": token, "hold": {"id": hold_id, "expires_at": wire_time(longer.expires_ms)}}
        )

    async def _remaining(self, request: Request) -> Answer:
        snapshot, key = await self._fresh_key(request, scope="read")
        who = reads.attribution_of(request.query, snapshot, key)
        try:
            standings = await self._plane.holds.standings(snapshot, who)
        except TooManyBudgets as error:
            raise ProblemError(problem("too-many-budgets", detail=f"{error}.")) from error
        return _json(reads.remaining_answer(standings))

    async def _start_run(self, request: Request) -> Answer:
        snapshot, key = await self._fresh_key(request, scope="preflight")
        return _json(
            await start_run(request, self._plane.runs, snapshot, key, pepper=self._config.derives_ids)
        )

    async def _close_run(self, run: str, state: str, request: Request) -> Answer:
        _, key = await self._any_key(request)
        # Whoever may manage may stop, from anywhere; an SDK closes what it may start.
        snapshot, key = await self._fresh_key(
            request, scope="manage" if "manage" in key.scopes else "preflight"
        )
        return _json(await close_run(request, self._plane.runs, snapshot, key, run=run, state=state))

    async def _prices(self, request: Request) -> Answer:
        snapshot, _ = await self._fresh_key(request, scope="read")
        provider, now, book = request.query.get("provider"), datetime.now(UTC), self._plane.books.book
        prices = snapshot.prices
        etag = price_list_etag(book, now, provider=provider, prices=prices).encode()
        headers = [(b"content-type", b"application/json"), (b"etag", etag)]
        if request.headers.get(b"if-none-match") == etag:
            return 304, b"", headers
        return (
            200,
            await asyncio.to_thread(self._plane.books.price_list, provider, now, etag, prices),
            headers,
        )

    async def _healthz(self, _request: Request) -> Answer:
        return _json({"status": "ok"})

    async def _readyz(self, _request: Request) -> Answer:
        missing = await self._plane.missing()
        return (
            _json({"status": "waiting", "missing": missing}, 503) if missing else _json({"status": "ready"})
        )
