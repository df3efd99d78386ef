"""The proxy as an ASGI application: who may come in, what becomes of each request, and what is told of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpcore
from noburn_sdk._config import DEFAULT_BASE_URL
from noburn_sdk.errors import AuthenticationError

from proxy.answers import Refusal, refusal_of
from proxy.callers import identify
from proxy.calls import Call, Calls
from proxy.config import Config
from proxy.exchange import Broken, Left, Noted, Receive, Reply, Room, Scope, Send, read_body
from proxy.gates import Gates
from proxy.headers import BadHeaders, checked
from proxy.metrics import Metrics
from proxy.pools import Pools
from proxy.routes import find
from proxy.upstream_config import Api

log = logging.getLogger("proxy")
access = logging.getLogger("proxy.access")

READY_SECONDS = 2.0
"""How long an answer of noburn's readiness is believed."""


class ProxyApp:
    """Serves one process. `startup` first, then requests, then `drain` and `shutdown`."""

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self.config = config
        self.metrics = metrics or Metrics()
        self._process_id, self._served = secrets.token_hex(5), 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._by_caller: Counter[str] = Counter()
        self._room = Room(config.limits.bodies_bytes_max)
        self.draining = False
        self._ready: tuple[float, str | None] = (0.0, None)

    async def startup(self) -> None:
        """Opens what needs the event loop."""
        self._gates = Gates(self.config)
        self._pools = Pools(self.config.upstreams.values(), self.config.limits)
        self._calls = Calls(self.config, self._gates, self._pools, self.metrics)
        self._noburn = httpcore.AsyncConnectionPool(max_connections=2, retries=0)
        if self.config.noburn_key is not None:
            # What an earlier process left in the outbox goes out now, and not with the first call.
            async with self._gates.using(self.config.noburn_key):
                pass

    async def drain(self) -> None:
        """Lets what is under way end, within its time; cuts the rest, whose calls are settled by what was seen."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self.config.limits.drain_seconds)
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self.config.limits.flush_seconds)

    async def shutdown(self) -> None:
        """Delivers settlements and closes every connection."""
        if not await self._gates.aclose():
            log.warning("settlements are left in the outbox, for the next process")
        await self._pools.aclose()
        await self._noburn.aclose()
        self.metrics.save()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self._served += 1
        noted = Noted(f"{self._process_id}{self._served:08x}", scope["method"], scope["path"][:200])
        reply = Reply(send, noted, self.config.limits.send_seconds)
        task = asyncio.current_task()
        assert task is not None
        if scope["path"] in ("/healthz", "/readyz", "/metrics"):
            await self._own(scope, reply)
            return
        self._tasks.add(task)
        api: Api = "openai"
        try:
            named = self.config.upstreams.get(scope["path"].strip("/").partition("/")[0])
            api = named.api if named is not None else api
            noted.upstream = named.name if named is not None else ""
            await self._guarded(scope, receive, reply, noted, task)
        except Refusal as refusal:
            await self._refuse(refusal, api, reply, noted)
        except Left:
            noted.ended = noted.ended or "left"
        except asyncio.CancelledError:
            noted.ended = noted.ended or "left"
            if reply.started:
                # At the end of the process: whoever reads must not take half an answer for a whole one.
                raise Broken from None
            await self._refuse(Refusal(503, "ending", "The proxy is ending."), api, reply, noted)
        except Broken:
            noted.ended = "cut"
            raise
        except Exception:
            log.exception("request %s failed", noted.id)
            if reply.started:
                raise
            await self._refuse(Refusal(500, "internal", "A fault of the proxy's."), api, reply, noted)
        finally:
            self._tasks.discard(task)
            self._tell(noted)

    async def _refuse(self, refusal: Refusal, api: Api, reply: Reply, noted: Noted) -> None:
        noted.reason = noted.reason or refusal.reason
        if reply.started:
            raise Broken
        headers = refusal.all_headers()
        if refusal.status in (408, 413, 431) or self.draining:
            # What is left of the request is not read.
            headers.append((b"connection", b"close"))
        try:
            await reply.whole(refusal.status, headers, refusal.body(api, noted.id))
        except Left:
            noted.ended = "left"

    async def _guarded(
        self, scope: Scope, receive: Receive, reply: Reply, noted: Noted, task: asyncio.Task[Any]
    ) -> None:
        limits = self.config.limits
        if self.draining:
            raise Refusal(503, "draining", "The proxy is ending; call again.", retry_after=1.0)
        if len(self._tasks) > limits.calls_max:
            raise Refusal(503, "too_many_calls", "The proxy has too many calls at once.", retry_after=1.0)
        headers = list(scope["headers"])
        try:
            by_name = checked(headers, limits.header_bytes_max)
        except BadHeaders as error:
            raise Refusal(
                400, "headers", f"The request's headers are refused: {error}.", retry=False
            ) from None
        except OverflowError:
            raise Refusal(
                431, "headers", f"The headers exceed {limits.header_bytes_max} bytes.", retry=False
            ) from None
        caller = identify(by_name, self.config)
        noted.caller = caller.name
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        route = find(noted.method, path, query, by_name, caller, self.config)
        noted.endpoint = route.endpoint.name if route.endpoint is not None else "free"
        if self._by_caller[caller.name] >= limits.calls_per_caller_max:
            raise Refusal(503, "too_many_calls", "This key has too many calls at once.", retry_after=1.0)
        self._by_caller[caller.name] += 1
        try:
            content = await read_body(receive, by_name.get("content-length"), limits, self._room, noted)
            call = Call(noted.method, headers, by_name, content, caller, route)
            watch = asyncio.ensure_future(_watch(receive, task))
            try:
                async with asyncio.timeout(limits.call_seconds):
                    await self._calls.run(call, reply, noted)
            except TimeoutError:
                raise Refusal(
                    504, "upstream", f"The call took longer than {limits.call_seconds:g} s."
                ) from None
            except asyncio.CancelledError:
                if watch.done() and not self.draining:
                    task.uncancel()
                    raise Left from None
                raise
            except AuthenticationError as error:
                raise refusal_of(error) from None
            finally:
                watch.cancel()
        finally:
            self._room.give_back(noted.bytes_in)
            self._by_caller[caller.name] -= 1
            if not self._by_caller[caller.name]:
                del self._by_caller[caller.name]

    def _tell(self, noted: Noted) -> None:
        took = time.monotonic() - noted.began
        self.metrics.add(
            "requests_total",
            upstream=noted.upstream if noted.upstream in self.config.upstreams else "",
            endpoint=noted.endpoint,
            status=str(noted.status),
        )
        if noted.added:
            self.metrics.observe("added_seconds", noted.added)
        if self.config.access_log:
            told = {
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                **{
                    name: value
                    for name, value in vars(noted).items()
                    if value and name not in ("began", "added")
                },
                "ms": round(took * 1000, 1),
            }
            access.info(json.dumps(told, ensure_ascii=True))

    # The proxy's own pages

    async def _own(self, scope: Scope, reply: Reply) -> None:
        status, text = 405, "GET only\n"
        if scope["method"] in ("GET", "HEAD"):
            match scope["path"]:
                case "/healthz":
                    status, text = 200, "ok\n"
                case "/readyz":
                    missing = await self._missing()
                    status, text = (200, "ready\n") if missing is None else (503, f"{missing}\n")
                case _:
                    status, text = self._metrics_page(dict(scope["headers"]))
        kind = b"text/plain; version=0.0.4; charset=utf-8"
        await reply.whole(status, [(b"content-type", kind)], text.encode())

    async def _missing(self) -> str | None:
        """What stands in the way of calls, None for nothing."""
        if self.draining:
            return "draining"
        at, found = self._ready
        if time.monotonic() - at > READY_SECONDS:
            base = (self.config.noburn_url or DEFAULT_BASE_URL).rstrip("/")
            seconds = {"timeout": {"connect": 2.0, "read": 2.0, "write": 2.0, "pool": 2.0}}
            try:
                answer = await self._noburn.request("GET", f"{base}/readyz", extensions=seconds)
                found = None if answer.status == 200 else f"noburn is not ready: {answer.status}"
            except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                found = f"noburn does not answer: {type(error).__name__}"
            self._ready = (time.monotonic(), found)
        return found

    def _metrics_page(self, headers: dict[bytes, bytes]) -> tuple[int, str]:
        token = self.config.metrics_token
        if token is None:
            return 404, "no metrics: set a token\n"
        if not hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {token}".encode()):
            return 401, "Authorization: Bearer is missing or wrong\n"
        self.metrics.set("in_flight", len(self._tasks))
        self.metrics.set("settlements_waiting", self._gates.waiting)
        self.metrics.set("draining", int(self.draining))
        return 200, self.metrics.text()

    async def keep_saving(self) -> None:
        """Tells the other processes what was counted, every second."""
        while True:
            await asyncio.sleep(1.0)
            self.metrics.set("in_flight", len(self._tasks))
            self.metrics.set("settlements_waiting", self._gates.waiting)
            self.metrics.save()


async def _watch(receive: Receive, task: asyncio.Task[Any]) -> None:
    """Ends the call of a caller that goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
