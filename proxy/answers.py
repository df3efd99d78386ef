"""What the proxy says by itself: refusals and failures in the provider's own shape, and its headers on answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from noburn_sdk.errors import (
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    NoburnError,
    PriceUnknownError,
    UnavailableError,
    UnboundedError,
)
from noburn_sdk.gate import HeldCall
from noburn_sdk.results import BudgetState, Denied

from proxy.upstream_config import Api

Header = tuple[bytes, bytes]

_KINDS: Mapping[Api, Mapping[int, str]] = {
    "openai": {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error"},
    "anthropic": {
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
    },
}


@dataclass(eq=False)
class Refusal(Exception):
    """An answer of the proxy's own: `reason` is one word for programs, `retry` tells clients to try again or not."""

    status: int
    reason: str
    message: str
    retry: bool | None = None
    retry_after: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def body(self, api: Api, request_id: str) -> bytes:
        """Returns the error as this provider's clients read it."""
        usual = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _KINDS[api].get(self.status, usual)
        detail = {"reason": self.reason, **self.more}
        value: dict[str, Any]
        if api == "anthropic":
            error = {"type": kind, "message": self.message, "noburn": detail}
            value = {"type": "error", "error": error, "request_id": request_id}
        else:
            value = {
                "error": {
                    "message": self.message,
                    "type": kind,
                    "param": None,
                    "code": self.reason,
                    "noburn": detail,
                }
            }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def all_headers(self) -> list[Header]:
        """Returns the headers that go with it."""
        found: list[Header] = [(b"content-type", b"application/json"), _header("reason", self.reason)]
        if self.retry is not None:
            found.append((b"x-should-retry", b"true" if self.retry else b"false"))
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, round(self.retry_after))).encode()))
        return [*found, *self.headers]

    def event(self, api: Api, request_id: str) -> bytes:
        """Returns the same as the last event of a stream."""
        named = b"event: error\n" if api == "anthropic" else b""
        return named + b"data: " + self.body(api, request_id) + b"\n\n"


def _header(name: str, value: str) -> Header:
    # A header is ASCII in one line, whatever a budget is called.
    plain = "".join(one if " " <= one <= "~" else "?" for one in value)[:500]
    return f"x-noburn-{name}".encode(), plain.encode()


def _usd(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _of_budget(remaining: Decimal | None, resets_at: datetime | None) -> list[Header]:
    found = []
    if remaining is not None:
        found.append(_header("remaining-usd", _usd(remaining)))
    if resets_at is not None:
        found.append(_header("resets-at", _time(resets_at)))
    return found


def of_held(held: HeldCall, *, asked_model: str, capped: bool) -> list[Header]:
    """Returns the headers of an answer to a call that was allowed."""
    if held.denied is not None:
        return [_header("reason", held.denied.reason), _header("observed", "would have been refused")]
    allowed = held.allowed
    if allowed is None:
        return [_header("reason", "unasked")]
    found = _of_budget(*_tightest(allowed.budgets))
    if held.model != asked_model:
        found.append(_header("model", held.model))
    if allowed.rerouted is not None:
        found.append(_header("policy", allowed.rerouted))
    if capped and allowed.max_output_tokens is not None:
        found.append(_header("max-output-tokens", str(allowed.max_output_tokens)))
    if allowed.amount_usd is not None:
        found.append(_header("held-usd", _usd(allowed.amount_usd)))
    return found


def _tightest(budgets: Iterable[BudgetState]) -> tuple[Decimal | None, datetime | None]:
    counted = [one for one in budgets if one.remaining_usd is not None]
    if not counted:
        return None, None
    least = min(counted, key=lambda one: one.remaining_usd or Decimal(0))
    return least.remaining_usd, least.resets_at


def remedy_of(error: BudgetExceededError) -> str:
    """Returns what would make the call possible, as a sentence."""
    ways = []
    if error.fits_max_output_tokens:
        ways.append(f"set the output cap to at most {error.fits_max_output_tokens}")
    if error.alternatives:
        ways.append("use " + " or ".join(other.model for other in error.alternatives))
    if error.reason == "budget_busy":
        ways.append("try again when calls in flight have ended")
    if error.reason == "customer_suspended":
        ways.append("have the customer let in again")
    else:
        if error.resets_at is not None:
            ways.append(f"wait until {_time(error.resets_at)}")
        if error.budget_id is not None:
            ways.append(f"raise {error.scope} budget {error.budget_id}")
    return "; ".join(ways)


def refusal_of(error: NoburnError) -> Refusal:
    """Returns the answer to a call that was not admitted."""
    match error:
        case BudgetExceededError():
            more: dict[str, Any] = {
                "budget": error.budget_id,
                "scope": error.scope,
                "limit_usd": None if error.limit_usd is None else _usd(error.limit_usd),
                "remaining_usd": None if error.remaining_usd is None else _usd(error.remaining_usd),
                "resets_at": None if error.resets_at is None else _time(error.resets_at),
                "estimate_usd": None if error.estimate_usd is None else _usd(error.estimate_usd),
                "fits_max_output_tokens": error.fits_max_output_tokens,
                "alternatives": [other.model for other in error.alternatives],
                "retry_after_ms": error.retry_after_ms,
                "remedy": remedy_of(error) or None,
            }
            headers = _of_budget(error.remaining_usd, error.resets_at)
            if more["remedy"]:
                headers.append(_header("remedy", more["remedy"]))
            told = {name: value for name, value in more.items() if value not in (None, [])}
            return Refusal(402, error.reason, str(error), retry=False, more=told, headers=tuple(headers))
        case UnboundedError():
            remedy = "bound it: x-noburn-cost-usd, or cost_usd of this endpoint in the proxy's configuration"
            told_remedy = (_header("remedy", remedy),)
            return Refusal(
                402, "unbounded", str(error), retry=False, more={"remedy": remedy}, headers=told_remedy
            )
        case PriceUnknownError():
            return Refusal(402, "price_unknown", str(error), retry=False)
        case InvalidRequestError():
            return Refusal(400, "invalid_request", str(error), retry=False, more={"errors": error.errors})
        case UnavailableError():
            # Nothing was decided and nothing was called, so trying again is safe; clients do it by themselves.
            return Refusal(503, "noburn_unavailable", str(error), retry_after=error.retry_after or 1.0)
        case AuthenticationError():
            return Refusal(401, "noburn_key", f"noburn does not take the key: {error}", retry=False)
        case _:
            return Refusal(502, "noburn_failed", str(error), retry=False)


def cut_at_hold(denied: Denied) -> Refusal:
    """Returns the last event of a stream that is ended where it would cost more than it holds."""
    return Refusal(402, "stream_cut", denied.explain(), retry=False)
