"""The client for threads."""

from __future__ import annotations

import random
import time
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
from noburn_sdk._exchange import Lost, Outcome, Pause, Send, Step, Surroundings, ask, decide
from noburn_sdk._requests import Preflight, Request, Settlement
from noburn_sdk.errors import NoburnError
from noburn_sdk.results import Allowed, Denied, Extended, Remaining, Settled
from noburn_sdk.runs import RunCalls

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from noburn_sdk._requests import CallOptions

T = TypeVar("T")
# The system's chance: a program's own seed stays its own, and children of a fork do not all wait alike.
_AROUND = Surroundings(clock=time.monotonic, chance=random.SystemRandom().random)


class Noburn(RunCalls):
    """Asks noburn before an LLM call and tells it afterwards. Safe to share between threads.

    `api_key` and `base_url` default to NOBURN_API_KEY and NOBURN_BASE_URL. Seconds: `timeout` for one HTTP
    attempt, `busy_timeout` for all waiting on holds in flight, `retry_timeout` for all attempts of a request.
    `wait_ms` is the server's share of the waiting, at most 10,000; 0 waits on neither side.
    Raises AuthenticationError without a key, InvalidRequestError for other bad settings.
    """

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
        self._http = httpx.Client(
            headers=self._config.headers,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_KEPT),
        )
        self._prices: dict[str | None, tuple[str | None, dict[str, Any]]] = {}

    @property
    def base_url(self) -> str:
        """Where noburn is."""
        return self._config.base_url

    def preflight(self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]) -> Allowed:
        """Places a hold for a call and returns its authorization.

        Raises BudgetExceededError for a refusal, PriceUnknownError for a model without a price,
        UnavailableError when nothing could be decided.
        """
        decision = self.decide(model=model, input_tokens=input_tokens, **options)
        if isinstance(decision, Denied):
            raise _answers.refusal(decision, model=model, provider=options.get("provider"))
        return decision

    def decide(self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]) -> Allowed | Denied:
        """Does what `preflight` does, but returns a refusal instead of raising it."""
        question = Preflight(model=model, input_tokens=input_tokens, **options)
        return self._run(decide(question, self._config.patience, _AROUND))

    def call(self, *, model: str, input_tokens: int, **options: Unpack[CallOptions]) -> Call:
        """Returns a context manager that pre-flights on entry and resolves the hold on exit."""
        return Call(self, Preflight(model=model, input_tokens=input_tokens, **options))

    def settle(
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
        """Reports what a call used: a Usage, noburn's form as a mapping, or a provider's answer or usage.

        None means unknown: the hold is presumed spent, and a later settle corrects it. Raises ConflictError
        when the hold was settled with other numbers.
        """
        item = Settlement(authorization, usage, model, outcome, latency_ms, cost_usd)
        return _answers.settled(self._ask(_requests.settle(item, idempotency_key)))

    def settle_batch(
        self, settlements: Sequence[Settlement], *, idempotency_key: str | None = None
    ) -> list[Settled | NoburnError]:
        """Settles up to 1,000 holds; returns for each, in order, what came of it or its error."""
        reply = self._ask(_requests.settle_batch(settlements, idempotency_key))
        return _answers.settled_batch(reply, len(settlements))

    def void(self, authorization: _requests.Authorization, *, idempotency_key: str | None = None) -> Settled:
        """Frees the hold of a call that never reached the provider or was not billed."""
        return _answers.settled(self._ask(_requests.void(authorization, idempotency_key)))

    def extend(
        self, hold: Allowed | Extended, ttl_seconds: int, *, idempotency_key: str | None = None
    ) -> Extended:
        """Lengthens the life of a hold, given as what `preflight` or `extend` returned, to so long from now.

        Raises ConflictError when its epoch is closed, InvalidRequestError when it is resolved already.
        """
        reply = self._ask(_requests.extend(hold, ttl_seconds, idempotency_key))
        return _answers.extended(reply, hold)

    def remaining(
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
        return _answers.remaining(self._ask(_requests.remaining(subject)))

    def prices(self, *, provider: str | None = None) -> dict[str, Any]:
        """Returns the prices in effect, of one provider or of all; fetches them again only when they changed."""
        held = self._prices.get(provider)
        reply = self._ask(_requests.prices(provider, held[0] if held else None))
        if reply.status == 304 and held is not None:
            return held[1]
        book = _answers.prices(reply)
        if len(self._prices) >= PRICE_LISTS_MAX:
            self._prices.clear()
        self._prices[provider] = (reply.headers.get("etag"), book)
        return book

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Request) -> Reply:
        return self._run(ask(request, self._config.patience, _AROUND))

    def _run(self, steps: Generator[Step, Outcome, T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                match steps.send(outcome):
                    case Send(request):
                        outcome = self._send(request)
                    case Pause(seconds):
                        time.sleep(seconds)
                        outcome = None
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, request: Request) -> Reply | Lost:
        seconds = self._config.timeout
        try:
            answer = self._http.request(
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


def _headers(request: Request) -> list[tuple[str, str]]:
    headers = list(request.headers)
    if request.idempotency_key is not None:
        headers.append(("Idempotency-Key", request.idempotency_key))
    return headers


class Call(CallState):
    """A call under its hold: put `model` and `max_output_tokens` into it, and `settle` with what it used.

    Left without a settle, the hold is voided after a failure that the provider does not bill, and otherwise
    presumed spent: outcome `cut` after any other exception, with a warning in the log after none.
    """

    def __init__(self, client: Noburn, question: Preflight) -> None:
        super().__init__()
        self._client = client
        self._question = question

    def __enter__(self) -> Self:
        question = self._question
        decision = self._client._run(decide(question, self._client._config.patience, _AROUND))
        if isinstance(decision, Denied):
            raise _answers.refusal(decision, model=question.model, provider=question.provider)
        self._begin(decision)
        return self

    def settle(
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
        return _answers.settled(self._client._ask(request))

    def extend(self, ttl_seconds: int) -> None:
        """Lengthens the hold's life to so long from now, for a call that takes longer than expected."""
        longer = self._client.extend(self.allowed, ttl_seconds)
        self._lengthen(longer)

    def void(self) -> Settled:
        """Frees the hold: the call was not made, or not billed."""
        request = _requests.void(self.allowed, None)
        self._resolved = True
        return _answers.settled(self._client._ask(request))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = self._ending(error)
        if ending == "nothing":
            return
        if ending == "unsettled":
            logger.warning("a call was not settled, so its hold is presumed spent: %s", self._where())
        try:
            if ending == "void":
                self.void()
            else:
                self.settle(None, outcome="cut" if ending == "cut" else "ok")
        except NoburnError as failed:
            # The hold expires into the same presumption, and the call's own error must reach its caller.
            logger.warning("a hold could not be resolved: %s: %s", self._where(), failed)
