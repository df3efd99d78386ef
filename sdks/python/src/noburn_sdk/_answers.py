"""Answers of noburn read into results and errors. Unknown fields are kept in `raw` and otherwise ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from noburn_sdk.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    InvalidRequestError,
    NoburnError,
    PriceUnknownError,
    UnavailableError,
)
from noburn_sdk.results import Allowed, Alternative, BudgetState, Denied, Extended, Remaining, Settled


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def _object(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(reply.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NoburnError(
            f"Expected a JSON object from noburn, got {len(reply.content)} bytes of "
            f"{reply.headers.get('content-type', 'unknown type')} with status {reply.status}; "
            "check NOBURN_BASE_URL",
            status=reply.status,
        )
    return value


def _ok(reply: Reply) -> dict[str, Any]:
    if not 200 <= reply.status < 300:
        raise failure(reply)
    return _object(reply)


def _amount(value: Any) -> Decimal | None:
    if value is None or isinstance(value, float | bool):
        return None
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        # Python 3.10 reads no "Z".
        return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _budget(value: Mapping[str, Any]) -> BudgetState:
    return BudgetState(
        id=str(value.get("id", "")),
        scope=str(value.get("scope", "")),
        subject=_text(value.get("subject")),
        window=_text(value.get("window")),
        limit_usd=_amount(value.get("limit_usd")),
        remaining_usd=_amount(value.get("remaining_usd")),
        resets_at=_time(value.get("resets_at")),
        raw=value,
    )


def _rerouted(value: Mapping[str, Any]) -> str | None:
    """What changed the model of a call, in words; None where it is the one that was asked for."""
    policy, downgrade = _mapping(value.get("policy")), _mapping(value.get("downgrade"))
    if downgrade:
        return f"budget {downgrade.get('budget', '')}"
    if policy and policy.get("asked_model") != value.get("model"):
        return f"policy {policy.get('id', '')}: {policy.get('rule', '')}"
    return None


def decision(reply: Reply) -> Allowed | Denied:
    """Reads the answer of a pre-flight. Raises NoburnError for a failure, never for a refusal."""
    value = _ok(reply)
    match value.get("decision"):
        case "allow":
            hold = _mapping(value.get("hold"))
            return Allowed(
                authorization=_text(value.get("authorization")),
                hold_id=_text(hold.get("id")),
                amount_usd=_amount(hold.get("amount_usd", value.get("estimate_usd"))),
                expires_at=_time(hold.get("expires_at")),
                model=str(value.get("model", "")),
                max_output_tokens=_whole(value.get("max_output_tokens")),
                budgets=tuple(_budget(item) for item in _objects(value.get("budgets"))),
                warnings=tuple(value.get("warnings") or ()),
                rerouted=_rerouted(value),
                raw=value,
            )
        case "deny":
            budget = value.get("budget")
            return Denied(
                reason=str(value.get("reason", "")),
                estimate_usd=_amount(value.get("estimate_usd")),
                fits_max_output_tokens=_whole(value.get("fits_max_output_tokens")),
                budget=_budget(budget) if isinstance(budget, dict) else None,
                alternatives=tuple(
                    Alternative(str(item.get("model", "")), _amount(item.get("estimate_usd")))
                    for item in _objects(value.get("alternatives"))
                ),
                retry_after_ms=_whole(value.get("retry_after_ms")),
                detail=_text(value.get("detail")),
                raw=value,
            )
        case other:
            # An unknown answer must never let a call through.
            raise NoburnError(f"noburn answered an unknown decision {other!r}; update noburn_sdk")


def refusal(denied: Denied, *, model: str, provider: str | None) -> NoburnError:
    """Returns the error that a refusal is raised as."""
    if denied.reason == "price_unknown":
        return PriceUnknownError(denied.explain(), model=model, provider=provider)
    return BudgetExceededError(denied)


def _settled(value: Mapping[str, Any]) -> Settled:
    return Settled(
        cost_usd=_amount(value.get("cost_usd")),
        released_usd=_amount(value.get("released_usd")),
        overrun_usd=_amount(value.get("overrun_usd")) or Decimal(0),
        replayed=value.get("replayed") is True,
        state=str(value.get("state", "")),
        late=value.get("late") is True,
        warnings=tuple(value.get("warnings") or ()),
        raw=value,
    )


def settled(reply: Reply) -> Settled:
    """Reads the answer of a settle or a void. Raises NoburnError."""
    return _settled(_ok(reply))


def settled_batch(reply: Reply, count: int) -> list[Settled | NoburnError]:
    """Reads the answer of a batch, item by item in order. Raises NoburnError when the whole batch failed."""
    value = _ok(reply)
    items = _objects(value.get("results"))
    if len(items) != count:
        raise NoburnError(f"noburn answered {len(items)} items of a batch of {count}", status=reply.status)
    results: list[Settled | NoburnError] = []
    for item in items:
        problem = _mapping(item.get("problem")) or item
        status = _whole(problem.get("status"))
        if status is not None and status >= 400:
            results.append(_failure(status, problem, reply.headers))
        else:
            results.append(_settled(item))
    return results


def extended(reply: Reply, hold: Allowed | Extended) -> Extended:
    """Reads the answer of an extend. Raises NoburnError, ConflictError for a hold of a closed epoch."""
    value = _ok(reply)
    longer = _mapping(value.get("hold"))
    return Extended(
        hold_id=_text(longer.get("id")) or str(hold.hold_id),
        expires_at=_time(longer.get("expires_at")),
        authorization=_text(value.get("authorization")) or str(hold.authorization),
        raw=value,
    )


def remaining(reply: Reply) -> Remaining:
    """Reads the answer of `remaining`. Raises NoburnError."""
    value = _ok(reply)
    return Remaining(budgets=tuple(_budget(item) for item in _objects(value.get("budgets"))), raw=value)


def answer(reply: Reply) -> dict[str, Any]:
    """Reads an answer as it is. Raises NoburnError for a failure."""
    return _ok(reply)


def failures(items: list[Any], reply: Reply) -> list[NoburnError | None]:
    """Returns for each item of a batch the error that it is, or None."""
    found: list[NoburnError | None] = []
    for item in _objects(items):
        problem = _mapping(item.get("problem")) or item
        status = _whole(problem.get("status"))
        failed = status is not None and status >= 400
        found.append(_failure(status or 0, problem, reply.headers) if failed else None)
    return found


def prices(reply: Reply) -> dict[str, Any]:
    """Reads the price book. Raises NoburnError."""
    return _ok(reply)


def retry_after(reply: Reply) -> float | None:
    """Returns the seconds that a Retry-After header names; a date there is not read."""
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


def failure(reply: Reply) -> NoburnError:
    """Returns the error for an answer that is no success, read as problem+json where it is that."""
    try:
        value = json.loads(reply.content)
    except ValueError:
        value = None
    return _failure(reply.status, value if isinstance(value, dict) else {}, reply.headers, retry_after(reply))


def _failure(
    status: int, problem: Mapping[str, Any], headers: Mapping[str, str], after: float | None = None
) -> NoburnError:
    title = _text(problem.get("title")) or f"noburn answered {status}"
    detail = _text(problem.get("detail"))
    kind = _text(problem.get("code")) or (_text(problem.get("type")) or "").rstrip("/").rsplit("/", 1)[-1]
    code = kind.removesuffix(".md").replace("-", "_") if kind != "about:blank" else ""
    message = f"{title}: {detail}" if detail and detail != title else title
    if code:
        message += f" ({code})"
    request_id = (_text(problem.get("instance")) or headers.get("x-request-id") or "").removeprefix(
        "urn:request:"
    ) or None
    if status in (401, 403):
        return AuthenticationError(message, status=status, request_id=request_id)
    if status == 409:
        return ConflictError(message, code=code, status=status, request_id=request_id)
    if status == 429 or status >= 500:
        return UnavailableError(message, retry_after=after, status=status, request_id=request_id)
    if 400 <= status < 500:
        errors = field_errors(problem.get("errors"))
        return InvalidRequestError(message, errors=errors, status=status, request_id=request_id)
    return NoburnError(message, status=status, request_id=request_id)


def field_errors(value: Any) -> dict[str, str]:
    """Returns a problem's `errors` by field: a mapping, or a list of objects with a field or JSON pointer."""
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for name, text in value.items():
            found[str(name)] = "; ".join(map(str, text)) if isinstance(text, list) else str(text)
    for item in _objects(value):
        pointer = _text(item.get("pointer"))
        name = _text(item.get("field")) or (pointer or "").lstrip("#/").replace("/", ".") or "body"
        found[name] = _text(item.get("detail")) or _text(item.get("message")) or "is invalid"
    return found
