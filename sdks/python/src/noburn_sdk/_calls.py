"""What becomes of a hold when its `with` block ends: the rules, without sending anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from noburn_sdk.results import Allowed, Extended

Ending = Literal["nothing", "void", "cut", "unsettled"]

_CHAIN_MAX = 10

_PROVIDERS = ("openai", "anthropic", "litellm", "google.genai", "mistralai", "cohere", "groq", "together")
"""Packages whose exceptions are known to be about the provider call, not about anything else in the block."""

_PROVIDER_PREFIXES = tuple(f"{name}." for name in _PROVIDERS)

_NEVER_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError"}
)
"""Transport errors of httpx, httpx2 and httpcore from before a request was on its way."""

_MAYBE_SENT = frozenset(
    {
        "ReadTimeout",
        "WriteTimeout",
        "ReadError",
        "WriteError",
        "CloseError",
        "RemoteProtocolError",
        "LocalProtocolError",
    }
)


def never_billed(error: BaseException) -> bool:
    """Says whether this failure of a provider call is one that the provider does not bill.

    True for a provider client's error with an HTTP status of 400 or above or with a connection that was never
    made; False for time-outs, cut answers, errors inside a stream, and everything that is not a provider
    client's error: a database may fail after the provider has answered. Nothing has to be installed for it.
    Clients that retry by themselves hide their earlier attempts: give them `max_retries=0`, or each attempt a
    call of its own.
    """
    if not any(f"{kind.__module__}.".startswith(_PROVIDER_PREFIXES) for kind in type(error).__mro__):
        return False
    for cause in _causes(error):
        status = getattr(cause, "status_code", None)
        if status is None:
            status = getattr(cause, "code", None)
        if isinstance(status, int):
            # An error event inside a stream carries the stream's own 200.
            return status >= 400
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _MAYBE_SENT:
            return False
        if names & _NEVER_SENT or isinstance(cause, ConnectionRefusedError):
            return True
    return False


def never_left(error: BaseException) -> bool:
    """Says whether an attempt failed for sure before its request left, or was refused with a status.

    For errors of one attempt's transport, of which the caller knows that they are that.
    """
    for cause in _causes(error):
        status = getattr(cause, "status_code", None)
        if isinstance(status, int):
            return status >= 400
        names = {kind.__name__ for kind in type(cause).__mro__}
        if names & _MAYBE_SENT:
            return False
        if names & _NEVER_SENT or isinstance(cause, ConnectionRefusedError):
            return True
    return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen and len(seen) < _CHAIN_MAX:
        seen.append(found)
        yield found
        # Not __context__: an error that was handled says nothing about the one that came after it.
        found = found.__cause__


class CallState:
    """An allowed call until its hold is resolved. The clients' Call classes add the sending."""

    def __init__(self) -> None:
        self._allowed: Allowed | None = None
        self._resolved = False
        self._started = 0.0

    def _begin(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._started = time.monotonic()

    def _lengthen(self, longer: Extended) -> None:
        self._allowed = replace(
            self.allowed, authorization=longer.authorization, expires_at=longer.expires_at
        )

    @property
    def allowed(self) -> Allowed:
        """The pre-flight's answer. Raises RuntimeError outside the `with` block."""
        if self._allowed is None:
            raise RuntimeError("enter the call first: with noburn.call(…) as call")
        return self._allowed

    @property
    def authorization(self) -> str | None:
        """What settles this call."""
        return self.allowed.authorization

    @property
    def model(self) -> str:
        """The model to call: the one asked for, or the cheaper one that a budget downgraded it to."""
        return self.allowed.model

    @property
    def max_output_tokens(self) -> int | None:
        """The cap to put into the provider call; None where the call has no output, as embeddings."""
        return self.allowed.max_output_tokens

    def _latency_ms(self) -> int:
        return int((time.monotonic() - self._started) * 1000)

    def _ending(self, error: BaseException | None) -> Ending:
        # A settle that was tried and failed may have arrived: sending another one would contradict it.
        if self._resolved or self._allowed is None or self._allowed.authorization is None:
            return "nothing"
        if error is None:
            return "unsettled"
        return "void" if never_billed(error) else "cut"

    def _where(self) -> dict[str, Any]:
        return {"hold": self.allowed.hold_id, "model": self.allowed.model}
