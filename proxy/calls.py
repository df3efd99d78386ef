"""One call on its way: admitted, sent, answered, settled; tried again where that is configured, a hold each time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
from noburn_sdk.errors import BudgetExceededError, NoburnError, PriceUnknownError
from noburn_sdk.gate import Asked, HeldCall
from noburn_sdk.gate.passing import Passing, is_events, meter_of
from noburn_sdk.gate.serving import LARGE_BYTES, ServingGate
from noburn_sdk.integrations.openai import site

from proxy.answers import Refusal, cut_at_hold, of_held, refusal_of
from proxy.bodies import BadBody, Body, check_members
from proxy.callers import Caller, Said, credential_for, own_credential, said_by
from proxy.config import Config
from proxy.exchange import Broken, Left, Noted, Reply
from proxy.gates import Gates
from proxy.headers import back, onward
from proxy.metrics import Metrics
from proxy.pools import Pools
from proxy.routes import Route, asked_at
from proxy.upstream_config import Upstream

AGAIN = frozenset({408, 429, 500, 502, 503, 504, 529})
"""What is tried again where retries are configured. None of these is billed."""
PAUSE_SECONDS, PAUSE_SECONDS_MAX = 0.25, 2.0
WHOLE_BYTES_MAX = 4 * 1024 * 1024
"""An answer of a known length up to this is passed on in one piece."""
PRICES_SECONDS = 5.0

Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Call:
    """A request as it was read."""

    method: str
    headers: list[Header]
    by_name: Mapping[str, str]
    content: bytes
    caller: Caller
    route: Route


class Calls:
    """Passes calls on. One for a process."""

    def __init__(self, config: Config, gates: Gates, pools: Pools, metrics: Metrics) -> None:
        self._config = config
        self._gates = gates
        self._pools = pools
        self._metrics = metrics

    async def run(self, call: Call, reply: Reply, noted: Noted) -> None:
        """Makes the call and sends its answer. Raises Refusal, Left, Broken."""
        if call.route.endpoint is None:
            # Whom it is for does not matter where nothing is billed; that its headers may say so does.
            said_by(call.caller, call.by_name, {}, self._config)
            return await self._free(call, reply, noted)
        if len(call.content) < LARGE_BYTES:
            body, model = _read(call)
        else:
            body, model = await asyncio.to_thread(_read, call)
        value = body.value if body is not None else {}
        said = said_by(call.caller, call.by_name, value, self._config)
        noted.model = (model or "")[:100]
        if call.caller.grant.models and not (model and call.caller.grant.allows_model(model)):
            raise Refusal(403, "not_allowed", "This key does not allow that model.", retry=False)
        _check_credential(call)
        async with self._gates.using(call.caller.noburn_key) as gate:
            return await self._attempts(gate, call, body, model, said, reply, noted)

    async def _free(self, call: Call, reply: Reply, noted: Noted) -> None:
        upstream = call.route.upstream
        headers = onward(call.headers, credential=credential_for(call.caller, upstream))
        noted.attempts = 1
        noted.added = time.monotonic() - noted.began
        try:
            response = await self._send(upstream, call, headers, call.content)
        except httpcore.TimeoutException as error:
            raise _failed(upstream, error) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise _failed(upstream, error) from None
        await self._relay(response, None, [], reply, noted, upstream)

    async def _attempts(
        self,
        gate: ServingGate,
        call: Call,
        body: Body | None,
        model: str | None,
        said: Said,
        reply: Reply,
        noted: Noted,
    ) -> None:
        """Tries the upstream, then its fallbacks, until one answers with something else than a failure."""
        first = call.route.upstream
        others = [self._config.upstreams[name] for name in first.fallbacks]
        tries = [first] * (1 + first.retries) + others
        for number, upstream in enumerate(tries):
            noted.attempts, noted.upstream = number + 1, upstream.name
            last = number + 1 == len(tries)
            value, named = _at(upstream, first, body, model)
            asked = asked_at(call.route, upstream, value, named, said, len(call.content))
            held = await self._admit(gate, asked, noted)
            response = await self._attempt(call, upstream, first, body, held, noted, last)
            if response is not None:
                headers = of_held(held, asked_model=asked.model, capped=_is_capped(held))
                if upstream is not first:
                    headers.append((b"x-noburn-upstream", upstream.name.encode()))
                passing = Passing(meter_of(held, events=is_events(_named(response, b"content-type"))), held)
                return await self._relay(response, passing, headers, reply, noted, upstream)
            if tries[number + 1] is upstream:
                await asyncio.sleep(min(PAUSE_SECONDS * 2**number, PAUSE_SECONDS_MAX))
        raise AssertionError("the last attempt returns or raises")

    async def _admit(self, gate: ServingGate, asked: Asked, noted: Noted) -> HeldCall:
        if asked.cut and asked.stream:
            prices = gate.want_prices()
            if prices.book() is None:
                await asyncio.to_thread(prices.wait, PRICES_SECONDS)
        try:
            held = await gate.admit_async(asked)
        except NoburnError as error:
            refusal = refusal_of(error)
            refused = isinstance(error, BudgetExceededError | PriceUnknownError)
            noted.decision, noted.reason = "deny" if refused else "failed", refusal.reason
            self._metrics.add("decisions_total", decision=noted.decision, reason=refusal.reason)
            if refusal.status == 401:
                raise
            raise refusal from None
        noted.decision, noted.reason = "allow", ""
        if held.denied is not None:
            noted.decision, noted.reason = "observed", held.denied.reason
        elif held.allowed is None:
            noted.decision = "unasked"
        else:
            noted.hold = held.allowed.hold_id or ""
        self._metrics.add("decisions_total", decision=noted.decision, reason=noted.reason)
        return held

    async def _attempt(
        self,
        call: Call,
        upstream: Upstream,
        first: Upstream,
        body: Body | None,
        held: HeldCall,
        noted: Noted,
        last: bool,
    ) -> httpcore.Response | None:
        """Sends one attempt. None for a failure after which another one follows."""
        try:
            content = call.content if body is None else body.with_members(held.body)
            credential = (
                credential_for(call.caller, upstream) if upstream is first else own_credential(upstream)
            )
            headers = onward(call.headers, credential=credential)
            if not noted.added:
                noted.added = time.monotonic() - noted.began
            response = await self._send(upstream, call, headers, content)
        except Refusal:
            held.void()
            raise
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            held.failed(error)
            self._metrics.add("upstream_failures_total", upstream=upstream.name, kind=type(error).__name__)
            if last:
                raise _failed(upstream, error) from None
            return None
        except BaseException as error:
            held.failed(error)
            raise
        if response.status >= 400:
            held.void()
        if response.status >= 500:
            self._metrics.add("upstream_failures_total", upstream=upstream.name, kind=str(response.status))
        if last or response.status not in AGAIN:
            return response
        await response.aclose()
        return None

    async def _send(
        self, upstream: Upstream, call: Call, headers: list[Header], content: bytes
    ) -> httpcore.Response:
        self._metrics.add("attempts_total", upstream=upstream.name)
        target = call.route.target(upstream)
        return await self._pools.send(upstream, call.method, target, headers, content)

    # The answer

    async def _relay(
        self,
        response: httpcore.Response,
        passing: Passing | None,
        own: list[Header],
        reply: Reply,
        noted: Noted,
        upstream: Upstream,
    ) -> None:
        """Passes an answer on as it comes, through the meter that ends its call."""
        if passing is not None and not passing.held.open:
            # A failure: nothing was billed, and nothing is to be read.
            passing = None
        source = response.aiter_stream()
        try:
            if passing is not None and _named(response, b"content-encoding") not in ("", "identity"):
                await self._unread(response, passing, source, own, reply)
            elif _is_short(response):
                await self._whole(response, passing, source, own, reply, upstream)
            else:
                await self._pieces(response, passing, source, own, reply, noted, upstream)
            noted.ended = noted.ended or "ended"
        except BaseException as error:
            noted.ended = "left" if isinstance(error, Left | asyncio.CancelledError) else "cut"
            if passing is not None:
                passing.cut()
            raise
        finally:
            self._metrics.add("endings_total", how=noted.ended)
            with contextlib.suppress(Exception):
                await response.aclose()

    async def _whole(
        self,
        response: httpcore.Response,
        passing: Passing | None,
        source: AsyncIterator[bytes],
        own: list[Header],
        reply: Reply,
        upstream: Upstream,
    ) -> None:
        try:
            content = b"".join([piece async for piece in source])
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise _failed(upstream, error) from None
        if passing is not None:
            content = passing.feed(content) + passing.finish()
        await reply.whole(response.status, [*back(response.headers, reframed=True), *own], content)

    async def _pieces(
        self,
        response: httpcore.Response,
        passing: Passing | None,
        source: AsyncIterator[bytes],
        own: list[Header],
        reply: Reply,
        noted: Noted,
        upstream: Upstream,
    ) -> None:
        # Events may be withheld; everything else keeps its length.
        reframed = is_events(_named(response, b"content-type"))
        await reply.start(response.status, [*back(response.headers, reframed=reframed), *own])
        try:
            async for data in source:
                given = data if passing is None else passing.feed(data)
                if passing is not None and passing.is_beyond():
                    noted.ended = "cut at hold"
                    passing.cut()
                    await response.aclose()
                    await reply.end(cut_at_hold(passing.beyond()).event(upstream.api, noted.id))
                    return
                if given:
                    await reply.piece(given)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise Broken(type(error).__name__) from None
        await reply.end(b"" if passing is None else passing.finish())

    async def _unread(
        self,
        response: httpcore.Response,
        passing: Passing,
        source: AsyncIterator[bytes],
        own: list[Header],
        reply: Reply,
    ) -> None:
        """An answer that is compressed although it was asked not to be: passed on, and presumed spent."""
        passing.held.finish(None)
        await reply.start(response.status, [*back(response.headers, reframed=False), *own])
        async for data in source:
            await reply.piece(data)
        await reply.end()


def _read(call: Call) -> tuple[Body | None, str | None]:
    """Reads the body, and the model that it or its address names. Raises Refusal."""
    if call.by_name.get("content-type", "").lower().startswith("multipart/"):
        if call.content.count(b'name="model"') > 1:
            raise Refusal(400, "invalid_request", "The form names its model twice.", retry=False)
        return None, site.form_model(call.content)
    try:
        body = Body(call.content)
        errors = check_members(body.value)
    except BadBody as error:
        errors = {"body": str(error)}
    if errors:
        listed = "; ".join(f"{name} {text}" for name, text in errors.items())
        raise Refusal(
            400, "invalid_request", f"The call cannot be read: {listed}", retry=False, more={"errors": errors}
        )
    return body, site.model_of(call.route.rest, body.value)


def _at(
    upstream: Upstream, first: Upstream, body: Body | None, model: str | None
) -> tuple[Mapping[str, Any], str | None]:
    """The body and its model as this upstream would be sent them."""
    value: Mapping[str, Any] = body.value if body is not None else {}
    other = upstream.models.get(model or "") if upstream is not first else None
    if other is None or "model" not in value:
        return value, model
    return {**value, "model": other}, other


def _check_credential(call: Call) -> None:
    """Raises Refusal for a call that the provider would turn away: it would only hold money meanwhile."""
    if call.caller.swaps:
        credential_for(call.caller, call.route.upstream)
    elif call.route.upstream.auth != "none":
        names = ("authorization", "x-api-key", "api-key")
        if not any(call.by_name.get(name, "").strip() for name in names):
            raise Refusal(401, "upstream_key", "The provider's key is missing.", retry=False)


def _is_capped(held: HeldCall) -> bool:
    """Whether the provider is sent another output cap than the caller named."""
    if held.estimate is None or held.allowed is None or not held.estimate.has_output:
        return False
    return held.estimate.inject_cap or held.allowed.max_output_tokens != held.estimate.max_output_tokens


def _is_short(response: httpcore.Response) -> bool:
    length = _named(response, b"content-length")
    events = is_events(_named(response, b"content-type"))
    return not events and length.isdecimal() and int(length) <= WHOLE_BYTES_MAX


def _named(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for one, value in response.headers if one.lower() == name), "")


def _failed(upstream: Upstream, error: Exception) -> Refusal:
    """The answer where the upstream gave none. Its own error may name addresses, so it is not told."""
    slow = isinstance(error, httpcore.TimeoutException)
    what = "did not answer in time" if slow else "could not be reached, or broke off its answer"
    return Refusal(504 if slow else 502, "upstream", f"{upstream.name} {what}.")
