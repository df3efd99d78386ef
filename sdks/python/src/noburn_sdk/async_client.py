"""The client for asyncio: the same methods and rules as `client.Noburn`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from noburn_sdk import _answers, _requests
from noburn_sdk._answers import Reply
from noburn_sdk._calls import CallState
from noburn_sdk._config import (
    CONNECTIONS_KEPT,
    CONNECTIONS_MAX,
    DEFAULT_TIMEOUT,
    PRICE_LISTS_MAX,
    logger,
    read_config,
)
from noburn_sdk._exchange import Lost, Outcome, Pause, Send, Step, ask, decide
from noburn_sdk._requests import Preflight, Request, Settlement
from noburn_sdk.client import _AROUND, _headers
from noburn_sdk.errors import NoburnError
from noburn_sdk.results import Allowed, Denied, Extended, Remaining, Settled
from noburn_sdk.runs import AsyncRunCalls

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from noburn_sdk._requests import CallOptions

T = TypeVar("T")


class AsyncNoburn(AsyncRunCalls):
    """Asks noburn before an LLM call and tells it afterwards, in one event loop; set up as `Noburn` is."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        wait_ms: int = 2_000,
        busy_timeout: float = 10.0,
        max_retries: int = 4,
        retry_timeout: float = 10.0,
    ) -> None:
        self._config = read_config(
            api_key=api_key,
            base_url=base_url,
            timeout=timeout,
            wait_ms=wait_ms,
            busy_timeout=busy_timeout,
            max_retries=max_retries,
            retry_timeout=retry_timeout,
        )
        self._http = httpx.AsyncClient(
            headers=self._config.headers,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_KEPT),
        )
        self._prices: dict[str | None, tuple[str | None, dict[str, Any]]] = {}

    @property
    def base_url(self) -> str:
        """Where noburn is."""
        return self._config.base_url

    async def preflight(self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]) -> Allowed:
        """Places a hold for a call and returns its authorization. Raises as `Noburn.preflight`."""
        decision = await self.decide(model=model, input_tokens=input_tokens, **options)
        if isinstance(decision, Denied):
            raise _answers.refusal(decision, model=model, provider=options.get("provider"))
        return decision

    async def decide(
        self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]
    ) -> Allowed | Denied:
        """Does what `preflight` does, but returns a refusal instead of raising it."""
        question = Preflight(model=model, input_tokens=input_tokens, **options)
        return await self._run(decide(question, self._config.patience, _AROUND))

    def call(self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]) -> AsyncCall:
        """Returns an async context manager that pre-flights on entry and resolves the hold on exit."""
        return AsyncCall(self, Preflight(model=model, input_tokens=input_tokens, **options))

    async def settle(
        self,
        authorization: _requests.Authorization,
        *,
        usage: Any,
        model: str | None = None,
        outcome: _requests.Outcome = "ok",
        latency_ms: int | None = None,
        cost_usd: _requests.Amount | None = None,
        idempotency_key: str | None = None,
    ) -> Settled:
        """Reports what a call used, as `Noburn.settle` does."""
        item = Settlement(authorization, usage, model, outcome, latency_ms, cost_usd)
        return _answers.settled(await self._ask(_requests.settle(item, idempotency_key)))

    async def settle_batch(
        self, settlements: Sequence[Settlement], *, idempotency_key: str | None = None
    ) -> list[Settled | NoburnError]:
        """Settles up to 1,000 holds; returns for each, in order, what came of it or its error."""
        reply = await self._ask(_requests.settle_batch(settlements, idempotency_key))
        return _answers.settled_batch(reply, len(settlements))

    async def void(
        self, authorization: _requests.Authorization, *, idempotency_key: str | None = None
    ) -> Settled:
        """Frees the hold of a call that never reached the provider or was not billed."""
        return _answers.settled(await self._ask(_requests.void(authorization, idempotency_key)))

    async def extend(
        self, hold: Allowed | Extended, ttl_seconds: int, *, idempotency_key: str | None = None
    ) -> Extended:
        """Lengthens the life of a hold, as `Noburn.extend` does."""
        reply = await self._ask(_requests.extend(hold, ttl_seconds, idempotency_key))
        return _answers.extended(reply, hold)

    async def remaining(
        self,
        *,
        customer: str | None = None,
        user: str | None = None,
        project: str | None = None,
        run: str | None = None,
        plan: str | None = None,
        provider: str | None = None,
        model: str | None = None,
    ) -> Remaining:
        """Returns what these subjects have left in every budget that a call of theirs would meet."""
        subject = {"customer": customer, "user": user, "project": project, "run": run, "plan": plan}
        subject |= {"provider": provider, "model": model}
        return _answers.remaining(await self._ask(_requests.remaining(subject)))

    async def prices(self, *, provider: str | None = None) -> dict[str, Any]:
        """Returns the prices in effect, of one provider or of all; fetches them again only when they changed."""
        held = self._prices.get(provider)
        reply = await self._ask(_requests.prices(provider, held[0] if held else None))
        if reply.status == 304 and held is not None:
            return held[1]
        book = _answers.prices(reply)
        if len(self._prices) >= PRICE_LISTS_MAX:
            self._prices.clear()
        self._prices[provider] = (reply.headers.get("etag"), book)
        return book

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, request: Request) -> Reply:
        return await self._run(ask(request, self._config.patience, _AROUND))

    async def _run(self, steps: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                match steps.send(outcome):
                    case Send(request):
                        outcome = await self._send(request)
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                        outcome = None
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _send(self, request: Request) -> Reply | Lost:
        seconds = self._config.timeout
        try:
            answer = await self._http.request(
                request.method,
                self._config.base_url + request.path,
                content=request.body,
                headers=_headers(request),
                timeout=httpx.Timeout(seconds, read=seconds + request.wait_seconds),
            )
        except httpx.RequestError as error:
            logger.debug("%s %s: %r", request.method, request.path, error)
            return Lost(error)
        logger.debug("%s %s: %d", request.method, request.path, answer.status_code)
        return Reply(answer.status_code, answer.headers, answer.content)


class AsyncCall(CallState):
    """A call under its hold, as `client.Call`, for `async with`."""

    def __init__(self, client: AsyncNoburn, question: Preflight) -> None:
        super().__init__()
        self._client = client
        self._question = question

    async def __aenter__(self) -> Self:
        question = self._question
        decision = await self._client._run(decide(question, self._client._config.patience, _AROUND))
        if isinstance(decision, Denied):
            raise _answers.refusal(decision, model=question.model, provider=question.provider)
        self._begin(decision)
        return self

    async def settle(
        self,
        usage: Any,
        *,
        model: str | None = None,
        outcome: _requests.Outcome = "ok",
        latency_ms: int | None = None,
        cost_usd: _requests.Amount | None = None,
    ) -> Settled:
        """Reports what the call used, as `Noburn.settle` does; the latency is measured unless given."""
        elapsed = self._latency_ms() if latency_ms is None else latency_ms
        item = Settlement(self.allowed, usage, model, outcome, elapsed, cost_usd)
        request = _requests.settle(item, None)
        self._resolved = True
        return _answers.settled(await self._client._ask(request))

    async def extend(self, ttl_seconds: int) -> None:
        """Lengthens the hold's life to so long from now, for a call that takes longer than expected."""
        longer = await self._client.extend(self.allowed, ttl_seconds)
        self._lengthen(longer)

    async def void(self) -> Settled:
        """Frees the hold: the call was not made, or not billed."""
        request = _requests.void(self.allowed, None)
        self._resolved = True
        return _answers.settled(await self._client._ask(request))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = self._ending(error)
        if ending == "nothing":
            return
        if ending == "unsettled":
            logger.warning("a call was not settled, so its hold is presumed spent: %s", self._where())
        try:
            if ending == "void":
                await self.void()
            else:
                await self.settle(None, outcome="cut" if ending == "cut" else "ok")
        except NoburnError as failed:
            # The hold expires into the same presumption, and the call's own error must reach its caller.
            logger.warning("a hold could not be resolved: %s: %s", self._where(), failed)
