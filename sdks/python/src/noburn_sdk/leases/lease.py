"""One lease as this process has it: what is left by its own account, and what became of each draw."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from noburn_sdk._config import logger
from noburn_sdk._requests import Preflight
from noburn_sdk.estimate import UnpricedError, bound_nano
from noburn_sdk.leases.bounds import Bounds
from noburn_sdk.results import Allowed
from noburn_sdk.settling.settler import Resolution

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Drawn(Allowed):
    """A call that was allowed by a lease: it is ended through its draw, not by an authorization of its own."""

    draw: Any = None


class Lease:
    """An amount to draw calls from until a moment of this process's clock. Safe to share between threads.

    `nano`, `tokens` and `requests` are what it has; None is no bound. What comes back from a call is put into a deque
    and added by the next draw: a finalizer may end a call in the very thread that is drawing one.
    """

    def __init__(
        self,
        *,
        id: str,
        authorization: str,
        nonce: str,
        nano: int,
        tokens: int | None,
        requests: int | None,
        until: float,
        bounds: Bounds,
        cap: int,
        put: Callable[[Resolution], None],
        now: float = 0.0,
    ) -> None:
        self.id, self.authorization, self.nonce = id, authorization, nonce
        self.nano, self.until, self.bounds, self.cap = nano, until, bounds, cap
        self.recalled: str | None = None
        self.heard_at = now
        """When a report of it was last answered."""
        self.tries_at = now
        self.drawn_at = now
        """When a call was last drawn from it."""
        self._put = put
        self._lock = threading.Lock()
        self._left, self._left_tokens, self._left_requests = nano, tokens, requests
        self._taken = 0
        self._back: deque[tuple[int, int, int, int, int]] = deque()
        self._reckoned: dict[int, int] = {}
        self._ended = self._told = self._heard = 0

    def draw(self, nano: int, tokens: int, now: float, asked: Preflight | None = None) -> Draw | None:
        """Takes a call's bound, or None where it does not fit, or nothing may be drawn any more.

        `asked` is what the log of decisions is told of the call.
        """
        if now >= self.until:
            return None
        with self._lock:
            if self.recalled is not None:
                return None
            if self._back:
                self._collect()
            if nano > self._left or (self._left_tokens is not None and tokens > self._left_tokens):
                return None
            if self._left_requests is not None:
                if self._left_requests < 1:
                    return None
                self._left_requests -= 1
            self._left -= nano
            if self._left_tokens is not None:
                self._left_tokens -= tokens
            self._taken += 1
            self.drawn_at = now
            return Draw(self, self._taken, nano, tokens, asked)

    def _collect(self) -> None:
        """Adds what came back; under the lock."""
        while self._back:
            nano, tokens, requests, told, heard = self._back.popleft()
            self._left += nano
            if self._left_tokens is not None:
                self._left_tokens += tokens
            if self._left_requests is not None:
                self._left_requests += requests
            if told >= 0:
                self._ended += 1
                self._told += told
            self._heard += heard

    def retire(self, why: str) -> None:
        """Lets nothing be drawn any more; a draw that is under way is done by the time this returns."""
        with self._lock:
            self.recalled = self.recalled or why

    @property
    def left(self) -> int:
        """What the next draw may be bound by, in nano-USD."""
        with self._lock:
            self._collect()
            return self._left

    def standing(self) -> tuple[int, bool]:
        """How many draws were reported, and whether nothing is in flight and every report was answered."""
        with self._lock:
            self._collect()
            return self._told, self._taken == self._ended and self._told == self._heard

    def void(self, draw: Draw) -> None:
        """A call was not made: all of its bound comes back, and nothing is told of it."""
        self._back.append((draw.nano, draw.tokens, 1, 0, 0))

    def settle(self, draw: Draw, body: dict[str, Any]) -> None:
        """A call ended: what it did not use comes back, and it is reported."""
        usage = body.get("usage")
        nano, tokens = draw.nano, draw.tokens
        if usage is not None:
            nano, tokens = self._used(usage, draw)
        told = {
            "seq": draw.sequence,
            "bound_usd": _usd(draw.nano),
            "bound_tokens": draw.tokens,
            **({"call": _said(draw.asked)} if draw.asked is not None else {}),
            **{name: value for name, value in body.items() if name != "authorization"},
        }
        wire = {"id": self.id, "authorization": self.authorization, "nonce": self.nonce, "draw": told}
        self._reckoned[draw.sequence] = nano
        self._put(Resolution("draw", f"{self.id}:{self.nonce}:{draw.sequence}", wire))
        self._back.append((draw.nano - nano, draw.tokens - tokens, 0, 1, 0))

    def _used(self, usage: dict[str, Any], draw: Draw) -> tuple[int, int]:
        """The most that it can have cost, until noburn says it exactly, and its tokens."""
        read, written = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        try:
            nano = bound_nano(
                self.bounds.rates,
                input_tokens=read,
                max_output_tokens=written,
                tool_calls=usage.get("tool_calls"),
                service_tier=usage.get("service_tier"),
            )
        except UnpricedError:
            nano = draw.nano
        return nano, read + written

    def heard(self, results: list[tuple[int, int | None]], recall: str | None, now: float) -> None:
        """A report was answered: draws by their numbers, with what each cost, where that was told."""
        for sequence, cost in results:
            reckoned = self._reckoned.pop(sequence, None)
            if reckoned is not None:
                self._back.append((0 if cost is None else reckoned - cost, 0, 0, -1, 1))
        self.heard_at = now
        if recall is not None and self.recalled is None:
            logger.debug("lease %s is recalled: %s", self.id, recall)
            self.recalled = recall


class Draw:
    """One call of a lease. `put` is what a held call gives its end to, as it would give it to the settler."""

    __slots__ = ("asked", "lease", "nano", "sequence", "tokens")

    def __init__(
        self, lease: Lease, sequence: int, nano: int, tokens: int, asked: Preflight | None = None
    ) -> None:
        self.lease, self.sequence, self.nano, self.tokens = lease, sequence, nano, tokens
        self.asked = asked

    def put(self, resolution: Resolution) -> None:
        """Ends it. Never raises."""
        try:
            if resolution.op == "void":
                self.lease.void(self)
            else:
                self.lease.settle(self, resolution.body)
        except Exception:
            # It stays taken, and its lease open, until that is presumed spent.
            logger.exception("a draw could not be ended: %s", resolution.key)


_KNOWN = {"model", "provider", "subject", "tags", "ttl_seconds"}
"""What noburn knows of a call by its lease."""


def _said(asked: Preflight) -> dict[str, Any]:
    return {name: value for name, value in asked.to_wire(wait_ms=0).items() if name not in _KNOWN}


def _usd(nano: int) -> str:
    return f"{nano // 10**9}.{nano % 10**9:09d}"


def usd(nano: int) -> Decimal:
    """Nano-USD as USD."""
    return Decimal(nano).scaleb(-9)
