"""Runs of agents: `with noburn_sdk.run(usd="2", steps=40): …`. A run inside another one is its child.

A run's caps hold for its calls and for those of all runs below it, as budgets do: before a call is made, whatever process
makes it. Stopped from anywhere, no further call of it is let through.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from noburn_sdk import _answers, _requests, attribution
from noburn_sdk._config import logger
from noburn_sdk._requests import Amount, Request
from noburn_sdk.errors import BudgetExceededError, InvalidRequestError, NoburnError
from noburn_sdk.results import Denied

if TYPE_CHECKING:
    from typing_extensions import Self

    from noburn_sdk._answers import Reply

F = TypeVar("F", bound=Callable[..., Any])

METADATA_MAX = 16

_running: ContextVar[str | None] = ContextVar("noburn_running", default=None)


def current_run() -> str | None:
    """Returns the id of the innermost run here; None outside of one."""
    return _running.get()


@dataclass(frozen=True)
class RunSummary:
    """What a run and all below it used so far. `models` is by model: calls, cost_usd, tokens; `refused` by reason."""

    calls: int = 0
    cost_usd: Decimal = Decimal(0)
    tokens: int = 0
    runs: int = 1
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RunState:
    """A run as it stands: `state` is open, ended or stopped. `summary` is there once it is over."""

    id: str
    state: str
    reason: str = ""
    parent: str | None = None
    started_at: datetime | None = None
    ends_at: datetime | None = None
    closed_now: bool = False
    summary: RunSummary | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class NewRun:
    """A run to be started. `seconds` and `idle_seconds` are whole numbers; None: no such cap.

    `run` is an id of your own, else noburn makes one; `depth` is how many levels of runs may be below. Raises
    InvalidRequestError naming every bad field.
    """

    usd: Amount | None = None
    steps: int | None = None
    seconds: int | None = None
    depth: int | None = None
    run: str | None = None
    parent: str | None = None
    customer: str | None = None
    user: str | None = None
    project: str | None = None
    metadata: Mapping[str, str] | None = None
    idle_seconds: int | None = None
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        errors: dict[str, str] = {}
        _requests._check_amount(errors, "usd", self.usd)
        for name, least in (("steps", 0), ("seconds", 1), ("depth", 0), ("idle_seconds", 1)):
            value = getattr(self, name)
            if value is not None:
                _requests._check_count(errors, name, value, least)
        for name in ("run", "parent", "customer", "user", "project", "idempotency_key"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                errors[name] = "must be a text that is not empty"
        if self.metadata is not None and (
            len(self.metadata) > METADATA_MAX
            or not all(isinstance(text, str) for pair in self.metadata.items() for text in pair)
        ):
            errors["metadata"] = f"must be at most {METADATA_MAX} texts"
        if errors:
            raise InvalidRequestError("The run is invalid", errors=errors)

    def to_request(self, parent: str | None) -> Request:
        """Returns the request that starts it, below `parent` unless it names one of its own."""
        caps: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("steps", "seconds", "depth")
            if getattr(self, name) is not None
        }
        if self.usd is not None:
            caps["usd"] = format(Decimal(self.usd), "f")
        names = ("project", "customer", "user")
        subject = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        body: dict[str, Any] = {"caps": caps} if caps else {}
        for name, value in (
            ("run", self.run),
            ("parent", self.parent or parent),
            ("subject", subject or None),
            ("metadata", dict(self.metadata) if self.metadata else None),
            ("idle_seconds", self.idle_seconds),
        ):
            if value is not None:
                body[name] = value
        return _requests.post("/v1/runs", body, self.idempotency_key)


def close_request(run: str, how: str, reason: str, key: str | None = None) -> Request:
    """Returns the request that stops or ends a run."""
    if not isinstance(run, str) or not run:
        raise InvalidRequestError("No run", errors={"run": "must be the id of a run"})
    return _requests.post(
        f"/v1/runs/{quote(run, safe='')}/{how}", {"reason": reason[:200]} if reason else {}, key
    )


def started(reply: Reply) -> RunState:
    """Reads the answer of a start. Raises BudgetExceededError where a run above stands in its way."""
    value = _answers._ok(reply)
    if value.get("decision") == "deny":
        raise BudgetExceededError(
            Denied(reason=str(value.get("reason", "")), detail=_answers._text(value.get("detail")), raw=value)
        )
    return _state(value)


def closed(reply: Reply) -> RunState:
    """Reads the answer of a stop or an end."""
    return _state(_answers._ok(reply))


def _state(value: Mapping[str, Any]) -> RunState:
    told = value.get("summary")
    return RunState(
        id=str(value.get("run", "")),
        state=str(value.get("state", "")),
        reason=_answers._text(value.get("reason")) or "",
        parent=_answers._text(value.get("parent")),
        started_at=_answers._time(value.get("started_at")),
        ends_at=_answers._time(value.get("ends_at")),
        closed_now=value.get("closed_now") is True,
        summary=_summary(told) if isinstance(told, dict) else None,
        raw=value,
    )


def _summary(value: Mapping[str, Any]) -> RunSummary:
    return RunSummary(
        calls=_answers._whole(value.get("calls")) or 0,
        cost_usd=_answers._amount(value.get("cost_usd")) or Decimal(0),
        tokens=_answers._whole(value.get("tokens")) or 0,
        runs=_answers._whole(value.get("runs")) or 0,
        models={
            str(one.get("model")): {**one, "cost_usd": _answers._amount(one.get("cost_usd"))}
            for one in _answers._objects(value.get("models"))
        },
        refused={str(name): int(count) for name, count in _answers._mapping(value.get("refused")).items()},
    )


class Running:
    """A run while a block, or a decorated function, is inside. Its calls are told apart by nothing else.

    `id` is the run's, once inside; `result` is what became of it, once outside. Enter each one once at a time; as a
    decorator it starts a run for each call. An end that fails is logged: an idle run is ended by noburn itself.
    """

    def __init__(
        self,
        wanted: NewRun,
        send: Callable[[Request], Reply] | None,
        send_async: Callable[[Request], Any] | None,
    ) -> None:
        self._wanted, self._send, self._send_async = wanted, send, send_async
        self._tokens: list[tuple[Token[str | None], attribution.context]] = []
        self.state: RunState | None = None
        self.result: RunState | None = None

    @property
    def id(self) -> str:
        """The run's id. Raises RuntimeError outside of it."""
        if self.state is None:
            raise RuntimeError("enter the run first: with noburn_sdk.run(…) as run")
        return self.state.id

    def stop(self, reason: str = "") -> RunState:
        """Stops it, and all below it: no further call is let through."""
        return closed(self._sync()(close_request(self.id, "stop", reason)))

    async def stop_async(self, reason: str = "") -> RunState:
        """Does what `stop` does, awaited."""
        return closed(await self._awaited()(close_request(self.id, "stop", reason)))

    def __enter__(self) -> Self:
        self._inside(started(self._sync()(self._wanted.to_request(current_run()))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outside()
        try:
            self.result = closed(self._sync()(close_request(self.id, "end", _why(error))))
        except NoburnError as failed:
            logger.warning("run %s could not be ended: %s", self.id, failed)

    async def __aenter__(self) -> Self:
        self._inside(started(await self._awaited()(self._wanted.to_request(current_run()))))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outside()
        try:
            self.result = closed(await self._awaited()(close_request(self.id, "end", _why(error))))
        except NoburnError as failed:
            logger.warning("run %s could not be ended: %s", self.id, failed)

    def __call__(self, function: F) -> F:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            message = "is a generator, whose steps may be inside of anything; put `with run(…)` into it"
            raise InvalidRequestError("Cannot decorate", errors={function.__qualname__: message})
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped_async(*args: Any, **options: Any) -> Any:
                async with self._again():
                    return await function(*args, **options)

            return wrapped_async  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            with self._again():
                return function(*args, **options)

        return wrapped  # type: ignore[return-value]

    def _again(self) -> Running:
        return Running(self._wanted, self._send, self._send_async)

    def _inside(self, state: RunState) -> None:
        self.state, self.result = state, None
        around = attribution.context(
            run=state.id,
            customer=self._wanted.customer,
            user=self._wanted.user,
            project=self._wanted.project,
        )
        around.__enter__()
        self._tokens.append((_running.set(state.id), around))

    def _outside(self) -> None:
        token, around = self._tokens.pop()
        _running.reset(token)
        around.__exit__(None, None, None)

    def _sync(self) -> Callable[[Request], Reply]:
        if self._send is None:
            raise InvalidRequestError(
                "Not here", errors={"run": "is an AsyncNoburn's: use `async with` and `await`"}
            )
        return self._send

    def _awaited(self) -> Callable[[Request], Any]:
        if self._send_async is not None:
            return self._send_async
        send = self._sync()

        async def in_a_thread(request: Request) -> Reply:
            import anyio.to_thread

            return await anyio.to_thread.run_sync(send, request)

        return in_a_thread


def _why(error: BaseException | None) -> str:
    return "" if error is None else f"failed: {type(error).__name__}"


def run(usd: Amount | None = None, **options: Any) -> Running:
    """Returns a run for `with`, `async with` or before a function, by the process's gate; options are `NewRun`'s."""

    def send(request: Request) -> Reply:
        from noburn_sdk._default import gate

        return gate().client()._ask(request)

    return Running(NewRun(usd=usd, **options), send, None)


class RunCalls:
    """What a client for threads can do about runs."""

    if TYPE_CHECKING:

        def _ask(self, request: Request) -> Reply: ...

    def run(self, usd: Amount | None = None, **options: Any) -> Running:
        """Returns a run for `with` or before a function; options are `NewRun`'s."""
        return Running(NewRun(usd=usd, **options), self._ask, None)

    def start_run(self, usd: Amount | None = None, **options: Any) -> RunState:
        """Starts a run; name its id in `run` of the calls. Raises BudgetExceededError below a run that is over."""
        return started(self._ask(NewRun(usd=usd, **options).to_request(None)))

    def stop_run(self, run: str, reason: str = "") -> RunState:
        """Stops a run and all below it, from anywhere: no further call of them is let through."""
        return closed(self._ask(close_request(run, "stop", reason)))

    def end_run(self, run: str, reason: str = "") -> RunState:
        """Ends a run and all below it; the answer's `summary` says what they used."""
        return closed(self._ask(close_request(run, "end", reason)))


class AsyncRunCalls:
    """What a client for asyncio can do about runs."""

    if TYPE_CHECKING:

        async def _ask(self, request: Request) -> Reply: ...

    def run(self, usd: Amount | None = None, **options: Any) -> Running:
        """Returns a run for `async with` or before a coroutine function; options are `NewRun`'s."""
        return Running(NewRun(usd=usd, **options), None, self._ask)

    async def start_run(self, usd: Amount | None = None, **options: Any) -> RunState:
        """Starts a run; name its id in `run` of the calls. Raises BudgetExceededError below a run that is over."""
        return started(await self._ask(NewRun(usd=usd, **options).to_request(None)))

    async def stop_run(self, run: str, reason: str = "") -> RunState:
        """Stops a run and all below it, from anywhere: no further call of them is let through."""
        return closed(await self._ask(close_request(run, "stop", reason)))

    async def end_run(self, run: str, reason: str = "") -> RunState:
        """Ends a run and all below it; the answer's `summary` says what they used."""
        return closed(await self._ask(close_request(run, "end", reason)))
