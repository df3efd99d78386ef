"""Everything that the SDK raises: one tree under NoburnError.

A refusal is a RuntimeError as well, since agent frameworks retry a plain Exception but not that.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noburn_sdk.results import Alternative, Denied


class NoburnError(Exception):
    """The base of all. `status` and `request_id` are of the HTTP answer, where there was one."""

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross processes in task queues; the default form would call __init__ with the message.
        return _rebuild, (type(self), self.args, self.__dict__)


def mixed(error: NoburnError, base: Any) -> NoburnError:
    """Returns the error as one that is a `base` too, so that a framework treats it as an error of its own.

    Provider clients turn a foreign exception into a lost connection and try again; their own they let through.
    """
    own: Any = type(error)
    if issubclass(own, base):
        return error
    kind: Any = _mix(own, base)
    made: NoburnError = kind.__new__(kind)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


@cache
def _mix(kind: Any, base: Any) -> type[NoburnError]:
    def reduce(self: NoburnError) -> tuple[Any, ...]:
        # The mix is made anew where it is unpickled, if the framework is installed there.
        return _rebuild_mixed, (kind, base.__module__, base.__qualname__, self.args, self.__dict__)

    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__reduce__": reduce}
    return type(kind.__name__, (kind, base), {**members, "__doc__": kind.__doc__})


def _rebuild_mixed(
    kind: type[NoburnError], module: str, name: str, args: tuple[Any, ...], state: dict[str, Any]
) -> NoburnError:
    error = _rebuild(kind, args, state)
    try:
        base = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return error
    return mixed(error, base)


def _rebuild(kind: type[NoburnError], args: tuple[Any, ...], state: dict[str, Any]) -> NoburnError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class BudgetExceededError(NoburnError, RuntimeError):
    """The call was refused, so it must not be made. `reason` is one of the documented reasons.

    Amounts are USD. Where no single budget refused, `scope`, `limit_usd`, `remaining_usd` and `resets_at` are
    None. `fits_max_output_tokens` is the largest cap that would fit now, `alternatives` models that would.
    """

    def __init__(self, denied: Denied) -> None:
        super().__init__(denied.explain())
        budget = denied.budget
        self.reason: str = denied.reason
        self.budget_id: str | None = budget.id if budget else None
        self.scope: str | None = budget.scope if budget else None
        self.limit_usd: Decimal | None = budget.limit_usd if budget else None
        self.remaining_usd: Decimal | None = budget.remaining_usd if budget else None
        self.resets_at: datetime | None = budget.resets_at if budget else None
        self.estimate_usd: Decimal | None = denied.estimate_usd
        self.fits_max_output_tokens: int | None = denied.fits_max_output_tokens
        self.alternatives: tuple[Alternative, ...] = denied.alternatives
        self.retry_after_ms: int | None = denied.retry_after_ms


class AuthenticationError(NoburnError):
    """The API key is missing, unknown, expired, revoked, or lacks the scope."""


class UnavailableError(NoburnError):
    """noburn could not be reached or could not decide, after the bounded retries. Nothing was decided.

    `retry_after` is in seconds, where the server named it.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, status=status, request_id=request_id)
        self.retry_after = retry_after


class PriceUnknownError(NoburnError, RuntimeError):
    """The model has no price, and the tenant refuses models without one; or a call has no bound."""

    def __init__(self, message: str, *, model: str | None = None, provider: str | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.provider = provider


class UnboundedError(PriceUnknownError):
    """What the call can cost is not known before it is made, so it needs a bound from you: see the message."""


class StreamCutError(BudgetExceededError):
    """The stream was ended where it would have cost more than its hold (`cut_streams=True`)."""


class InvalidRequestError(NoburnError):
    """The request is malformed; `errors` names every bad field and what is wrong with it."""

    def __init__(
        self,
        message: str,
        *,
        errors: Mapping[str, str] | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        self.errors: dict[str, str] = dict(errors or {})
        listed = "; ".join(f"{field}: {text}" for field, text in self.errors.items())
        super().__init__(f"{message}: {listed}" if listed else message, status=status, request_id=request_id)


class ConflictError(NoburnError):
    """The request contradicts what happened before. `code` is the last part of the problem's type.

    Examples: `idempotency_conflict`, `settle_conflict`, `epoch_closed`.
    """

    def __init__(
        self, message: str, *, code: str = "", status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message, status=status, request_id=request_id)
        self.code = code
