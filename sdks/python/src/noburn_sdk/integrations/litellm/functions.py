"""LiteLLM's functions with the gate before them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from functools import partial, wraps
from typing import Any

from noburn_sdk import _default, attribution
from noburn_sdk.errors import BudgetExceededError, NoburnError, mixed
from noburn_sdk.integrations.litellm.attempts import Running, running
from noburn_sdk.integrations.litellm.requests import ASYNCHRONOUS, Kind, arguments, asked_of, told
from noburn_sdk.integrations.litellm.streams import is_stream, metered

_REMEMBERED = "_noburn_refused"
_NEVER_RETRIED = 400
"""A status after which neither LiteLLM nor its Router tries again or takes a deployment out."""

_falling_back: ContextVar[bool] = ContextVar("noburn_litellm_fallbacks", default=False)
_told: ContextVar[list[NoburnError] | None] = ContextVar("noburn_litellm_told", default=None)


class _inside(AbstractContextManager[None]):
    """Marks that what happens here belongs to an admitted call: clients that LiteLLM uses are not asked again."""

    def __init__(self, call: Running) -> None:
        self._call = call
        self._ungated = attribution.ungated()
        self._token: Token[Running | None] | None = None

    def __enter__(self) -> None:
        self._token = running.set(self._call)
        self._ungated.__enter__()

    def __exit__(self, *_: object) -> None:
        self._ungated.__exit__(None, None, None)
        assert self._token is not None
        running.reset(self._token)


def as_litellm(error: NoburnError) -> NoburnError:
    """Returns a refusal as LiteLLM's own, which nothing tries again."""
    import litellm

    if isinstance(error, BudgetExceededError):
        made: Any = mixed(error, litellm.BudgetExceededError)
        made.message = str(error)
        made.llm_provider = ""
        made.max_budget = error.limit_usd
        spent = None if error.limit_usd is None else error.limit_usd - (error.remaining_usd or 0)
        made.current_cost = spent
        made.entity_type, made.entity_id = error.scope, error.budget_id
        made.category, made.rate_limit_type = "litellm_rate_limit", "budget"
    else:
        made = error
    made.status_code = _NEVER_RETRIED
    found: NoburnError = made
    return found


def _refuse(error: NoburnError, given: dict[str, Any]) -> NoburnError:
    """Notes a refusal for whoever turns it into something else on its way, and for whoever asks again."""
    made = as_litellm(error)
    listening = _told.get()
    if listening is not None:
        listening.append(made)
    log = given.get("litellm_logging_obj")
    if log is not None:
        log.__dict__.setdefault(_REMEMBERED, {})[str(given.get("model"))] = made
    return made


def _remembered(given: dict[str, Any]) -> NoburnError | None:
    """What the same call was refused with before, when LiteLLM's retries ask once more."""
    log = given.get("litellm_logging_obj")
    found: NoburnError | None = (
        getattr(log, _REMEMBERED, {}).get(str(given.get("model"))) if log is not None else None
    )
    return found


def _passes(given: dict[str, Any]) -> bool:
    """Says whether nothing is to be asked here: inside an admitted call, or no provider is called."""
    if running.get() is not None or attribution.is_ungated():
        return True
    return any(given.get(name) for name in ("mock_response", "mock_tool_calls", "mock_timeout"))


def _falls_back(given: dict[str, Any]) -> bool:
    """Says whether this only calls others of LiteLLM's functions, one model after another."""
    import litellm

    return not _falling_back.get() and bool(given.get("fallbacks") or litellm.model_fallbacks)


def gated(original: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
    """Returns one of LiteLLM's functions with the gate before it; one that is to answer later, too."""
    if asyncio.iscoroutinefunction(original):

        @wraps(original)
        async def function_async(*args: Any, **options: Any) -> Any:
            given = {**arguments(original, kind, args), **options}
            if _passes(given):
                return await original(*args, **options)
            return await _later(original, kind, given)

        return function_async

    @wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        given = {**arguments(original, kind, args), **options}
        if _passes(given):
            return original(*args, **options)
        if _falls_back(given):
            return contextvars.copy_context().run(_fall_back, original, args, options)
        if any(options.get(name) is True for name in ASYNCHRONOUS):
            return _later(original, kind, given)
        return _now(original, kind, given)

    return function


def _fall_back(original: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    _falling_back.set(True)
    return original(*args, **options)


def _now(original: Callable[..., Any], kind: Kind, given: dict[str, Any]) -> Any:
    try:
        asked = asked_of(kind, given)
        if (refused := _remembered(given)) is not None:
            raise refused
        held = _default.gate().admit(asked)
    except NoburnError as error:
        raise _refuse(error, given) from error.__cause__
    call = Running(asked, held)
    try:
        with _inside(call):
            answer = original(**told(asked, held.body, _streaming(given)))
    except BaseException as error:
        _failed(call, error, given)
        raise
    return _answered(call, answer, given)


async def _later(original: Callable[..., Any], kind: Kind, given: dict[str, Any]) -> Any:
    try:
        asked = asked_of(kind, given)
        if (refused := _remembered(given)) is not None:
            raise refused
        held = await _default.gate().admit_async(asked)
    except NoburnError as error:
        raise _refuse(error, given) from error.__cause__
    call = Running(asked, held)
    options = told(asked, held.body, _streaming(given))
    try:
        with _inside(call):
            if asyncio.iscoroutinefunction(original):
                answer = await original(**options)
            else:
                # In a thread, as LiteLLM does it: what it prepares may wait.
                inside = contextvars.copy_context()
                work = partial(inside.run, partial(original, **options))
                answer = await asyncio.get_running_loop().run_in_executor(None, work)
                if isinstance(answer, Coroutine):
                    answer = await answer
    except BaseException as error:
        _failed(call, error, given)
        raise
    return _answered(call, answer, given)


def _streaming(given: dict[str, Any]) -> dict[str, Any]:
    """Asks for a stream's usage, which `streams` withholds where the caller did not ask for it."""
    if given.get("stream") is not True or "messages" not in given:
        return given
    options = given.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        return given
    return {**given, "stream_options": {**(options or {}), "include_usage": True}}


def _failed(call: Running, error: BaseException, given: dict[str, Any]) -> None:
    """Ends a failed call. Raises the refusal of an attempt, which LiteLLM turned into something else."""
    if call.refusal is not None:
        raise _refuse(call.refusal, given) from error.__cause__
    call.failed(error)


def _answered(call: Running, answer: Any, given: dict[str, Any]) -> Any:
    call.answering = True
    if is_stream(answer):
        options = given.get("stream_options")
        wanted = isinstance(options, dict) and bool(options.get("include_usage"))
        return metered(answer, call, lambda: _inside(call), strips=not wanted)
    call.held.settle(answer)
    return answer


def telling(original: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that raises a refusal from inside it as it was, however it was mapped on its way."""

    @wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        heard: list[NoburnError] = []
        token = _told.set(heard)
        try:
            return original(*args, **options)
        except Exception:
            if heard:
                raise heard[-1] from None
            raise
        finally:
            _told.reset(token)

    return function


def telling_async(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a coroutine function."""

    @wraps(original)
    async def function(*args: Any, **options: Any) -> Any:
        heard: list[NoburnError] = []
        token = _told.set(heard)
        try:
            return await original(*args, **options)
        except Exception:
            if heard:
                raise heard[-1] from None
            raise
        finally:
            _told.reset(token)

    return function
