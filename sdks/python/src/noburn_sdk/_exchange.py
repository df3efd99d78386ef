"""Retries and waiting as generators: they yield what to do and are sent what came of it, so that the sync and
the async client share every decision and neither a socket nor a clock is needed to follow one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from noburn_sdk import _answers
from noburn_sdk._answers import Reply
from noburn_sdk._requests import WAIT_MS_MAX, Preflight, Request
from noburn_sdk.errors import UnavailableError
from noburn_sdk.results import Allowed, Denied

RETRIED = frozenset({502, 503, 504})
"""Nothing was decided there, or it cannot be known: the same key makes another attempt safe."""

BUSY_PAUSE_SECONDS_MIN = 0.01
BUSY_PAUSE_SECONDS_DEFAULT = 0.1

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send this request and send back a Reply or a Lost."""

    request: Request


@dataclass(frozen=True)
class Pause:
    """Sleep so many seconds and send back None."""

    seconds: float


@dataclass(frozen=True)
class Lost:
    """No answer came. Whether the request arrived is not known."""

    error: Exception


Step: TypeAlias = "Send | Pause"
Outcome: TypeAlias = "Reply | Lost | None"


@dataclass(frozen=True)
class Patience:
    """How often and how long to try. Seconds; `wait_ms` as on the wire."""

    max_retries: int = 4
    retry_timeout: float = 10.0
    wait_ms: int = 2_000
    busy_timeout: float = 10.0
    backoff: float = 0.05
    backoff_max: float = 2.0


@dataclass(frozen=True)
class Surroundings:
    """What a generator may ask of the world: a monotonic clock in seconds, and chance from 0 to 1."""

    clock: Callable[[], float]
    chance: Callable[[], float]


def ask(request: Request, patience: Patience, around: Surroundings) -> Generator[Step, Outcome, Reply]:
    """Sends a request until it is answered, always with the same bytes and key.

    Raises UnavailableError when the bounds of number or time are reached.
    """
    started = around.clock()
    attempt = 0
    while True:
        outcome = yield Send(request)
        if isinstance(outcome, Reply) and outcome.status not in RETRIED:
            return outcome
        named = _answers.retry_after(outcome) if isinstance(outcome, Reply) else None
        backoff = min(patience.backoff * 2.0**attempt, patience.backoff_max)
        # Never earlier than told; beyond that at random, so that callers do not return together.
        pause = backoff * (0.5 + around.chance() / 2) + (named or 0.0)
        spent = around.clock() - started
        if attempt >= patience.max_retries or spent + pause > patience.retry_timeout:
            raise _gave_up(outcome, attempt + 1, spent)
        attempt += 1
        yield Pause(pause)


def _gave_up(outcome: Outcome, attempts: int, seconds: float) -> UnavailableError:
    tried = f"after {attempts} attempts in {seconds:.1f} s"
    if isinstance(outcome, Reply):
        failed = _answers.failure(outcome)
        return UnavailableError(
            f"{failed} {tried}",
            retry_after=_answers.retry_after(outcome),
            status=outcome.status,
            request_id=failed.request_id,
        )
    reason = outcome.error if isinstance(outcome, Lost) else "no answer"
    error = UnavailableError(f"noburn could not be reached: {reason or type(reason).__name__} {tried}")
    if isinstance(outcome, Lost):
        error.__cause__ = outcome.error
    return error


def decide(
    preflight: Preflight, patience: Patience, around: Surroundings
) -> Generator[Step, Outcome, Allowed | Denied]:
    """Asks whether a call may be made, waiting a bounded time while only holds in flight stand in its way.

    The server waits first (`wait_ms`), then this side asks again with the same key and body: a refusal is not
    stored, so it is evaluated anew, and an answer that got lost is replayed. No new attempt starts that could
    end after `busy_timeout`.
    """
    wished = patience.wait_ms if preflight.wait_ms is None else preflight.wait_ms
    left = max(0.0, patience.busy_timeout - preflight.waited)
    wait_ms = 0 if preflight.dry_run else min(wished, WAIT_MS_MAX, int(left * 1000))
    request = preflight.to_request(wait_ms=wait_ms)
    started = around.clock()
    while True:
        decision = _answers.decision((yield from ask(request, patience, around)))
        if isinstance(decision, Allowed) or decision.reason != "budget_busy" or not wait_ms:
            return decision
        named = decision.retry_after_ms
        least = BUSY_PAUSE_SECONDS_DEFAULT if named is None else max(named / 1000, BUSY_PAUSE_SECONDS_MIN)
        pause = least * (1 + around.chance() / 2)
        if around.clock() - started + pause + wait_ms / 1000 > left:
            return decision
        yield Pause(pause)
