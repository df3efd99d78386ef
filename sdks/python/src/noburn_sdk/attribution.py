"""Whom a call is for, said once around it: `with noburn_sdk.context(customer="acme"): …`, or as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, fields, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from noburn_sdk.errors import InvalidRequestError

if TYPE_CHECKING:
    from typing_extensions import Self

    from noburn_sdk._requests import Amount

F = TypeVar("F", bound=Callable[..., Any])

HEADER_PREFIX = "x-noburn-"
_WHOLE = frozenset({"max_input_tokens", "max_output_tokens"})


@dataclass(frozen=True)
class Attribution:
    """Whom and what calls are for, and what is known of them. None says nothing.

    `cost_usd` bounds calls whose cost nothing else bounds: images, speech, batches. `max_input_tokens` is what
    you know of the whole input where only the provider knows it; `max_output_tokens` is the cap of calls that
    name none. `provider` is needed where several sell the model. `task` is what a call is for, such as `extract`:
    rules of policies may choose its model by that.
    """

    customer: str | None = None
    user: str | None = None
    run: str | None = None
    project: str | None = None
    plan: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    provider: str | None = None
    cost_usd: Amount | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    task: str | None = None

    def over(self, other: Attribution) -> Attribution:
        """Returns both in one; what this one says wins, and tags are joined."""
        if self == NOTHING:
            return other
        if other == NOTHING:
            return self
        said = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        return replace(other, **said, tags={**other.tags, **self.tags})

    def options(self) -> dict[str, Any]:
        """Returns what a pre-flight takes of this."""
        found = {name: getattr(self, name) for name in _OPTIONS if getattr(self, name) is not None}
        if self.tags:
            found["tags"] = dict(self.tags)
        return found


_NAMES = tuple(item.name for item in fields(Attribution) if item.name != "tags")
_OPTIONS = ("customer", "user", "run", "project", "plan", "provider", "cost_usd", "task")
NOTHING = Attribution()
"""Says nothing."""

_current: ContextVar[Attribution] = ContextVar("noburn_context", default=NOTHING)
_framework: ContextVar[Attribution] = ContextVar("noburn_framework", default=NOTHING)
_ungated: ContextVar[bool] = ContextVar("noburn_ungated", default=False)


def current() -> Attribution:
    """Returns what the surrounding contexts say together."""
    return _current.get()


_sources: list[Callable[[], Attribution]] = []


def framework() -> Attribution:
    """Returns what frameworks know of the calls here; whatever the caller says comes before it."""
    found = _framework.get()
    for source in _sources:
        found = found.over(source())
    return found


def told_by_framework() -> Attribution:
    """Returns what `tell_framework` set here."""
    return _framework.get()


def add_source(source: Callable[[], Attribution]) -> None:
    """Asks a framework's integration, whenever a call is made, what it knows of it."""
    if source not in _sources:
        _sources.append(source)


def remove_source(source: Callable[[], Attribution]) -> None:
    """Undoes `add_source`."""
    if source in _sources:
        _sources.remove(source)


def tell_framework(said: Attribution) -> Token[Attribution]:
    """Sets what a framework knows of the calls here, until `forget_framework` is given the token."""
    return _framework.set(said)


def forget_framework(token: Token[Attribution]) -> None:
    """Undoes `tell_framework`."""
    _framework.reset(token)


def from_headers(headers: Mapping[str, str]) -> Attribution:
    """Reads `x-noburn-customer`, `x-noburn-tags: feature=chat,team=blue`, `x-noburn-cost-usd` and so on.

    Values may be percent-encoded, as headers hold ASCII alone. Raises InvalidRequestError for unknown ones.
    """
    said: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, value in headers.items():
        low = name.lower()
        if not low.startswith(HEADER_PREFIX):
            continue
        key, text = low[len(HEADER_PREFIX) :].replace("-", "_"), unquote(str(value)).strip()
        if key == "tags":
            pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
            said["tags"] = {tag.strip(): what.strip() for tag, _, what in pairs}
        elif key in _WHOLE and not text.isdecimal():
            errors[low] = "must be a whole number"
        elif key in _NAMES and text:
            said[key] = int(text) if key in _WHOLE else text
        elif key not in _NAMES:
            errors[low] = f"unknown; known are tags, {', '.join(_NAMES)}"
    if errors:
        raise InvalidRequestError("The call's noburn headers are invalid", errors=errors)
    return Attribution(**said)


class context:
    """Says whom the calls inside are for. Nests: the inner one wins field by field, and tags are joined.

    For `with`, or before a function, generator, coroutine or async generator. It follows asyncio's tasks by
    itself; a thread of your own starts without it, unless run by `contextvars.copy_context().run`.
    Not a thing to share: enter each one once at a time.
    """

    def __init__(
        self,
        *,
        customer: str | None = None,
        user: str | None = None,
        run: str | None = None,
        project: str | None = None,
        plan: str | None = None,
        tags: Mapping[str, str] | None = None,
        provider: str | None = None,
        cost_usd: Amount | None = None,
        max_input_tokens: int | None = None,
        max_output_tokens: int | None = None,
        task: str | None = None,
    ) -> None:
        self._said = Attribution(
            customer,
            user,
            run,
            project,
            plan,
            dict(tags or {}),
            provider,
            cost_usd,
            max_input_tokens,
            max_output_tokens,
            task,
        )
        self._tokens: list[Token[Attribution]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_current.set(self._said.over(_current.get())))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        return _around(function, lambda: _Scope(_current, self._said.over(_current.get())))


class ungated:
    """Lets the calls inside go to the provider unasked and unmetered: for what is gated already, by hand."""

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> Self:
        self._tokens.append(_ungated.set(True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ungated.reset(self._tokens.pop())

    def __call__(self, function: F) -> F:
        return _around(function, lambda: _Scope(_ungated, True))


def is_ungated() -> bool:
    """Says whether calls here are to pass unasked."""
    return _ungated.get()


class _Scope:
    """One variable set for a while."""

    def __init__(self, variable: ContextVar[Any], value: Any) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)


def _around(function: F, scope: Callable[[], _Scope]) -> F:
    wrapped: Callable[..., Any]
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapped(*args: Any, **options: Any) -> AsyncGenerator[Any, Any]:
            # Set around each step: the consumer between two of them is not inside.
            steps = function(*args, **options)
            step: Callable[[], Any] = steps.__anext__
            try:
                while True:
                    with scope():
                        try:
                            value = await step()
                        except StopAsyncIteration:
                            return
                    try:
                        step = functools.partial(steps.asend, (yield value))
                    except Exception as error:
                        step = functools.partial(steps.athrow, error)
            finally:
                await steps.aclose()

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Generator[Any, Any, Any]:
            steps = function(*args, **options)
            step: Callable[[], Any] = steps.__next__
            try:
                while True:
                    with scope():
                        try:
                            value = step()
                        except StopIteration as stop:
                            return stop.value
                    try:
                        step = functools.partial(steps.send, (yield value))
                    except Exception as error:
                        step = functools.partial(steps.throw, error)
            finally:
                steps.close()

    elif inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped(*args: Any, **options: Any) -> Any:
            with scope():
                return await function(*args, **options)

    else:

        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            with scope():
                return function(*args, **options)

    return wrapped  # type: ignore[return-value]
