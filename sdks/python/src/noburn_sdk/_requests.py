"""Requests to noburn, validated whole and built without sending anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias, TypedDict
from urllib.parse import quote, urlencode
from uuid import uuid4

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.results import Allowed, Extended
from noburn_sdk.usage import Usage, normalise, read

WAIT_MS_MAX = 10_000
BATCH_MAX = 1_000
TAGS_MAX = 10
TTL_SECONDS_MAX = 900

LATENCY_MS_MAX = 2**31 - 1

Outcome = Literal["ok", "error", "cut"]

Authorization: TypeAlias = "Allowed | Extended | str"
"""What resolves a hold: the answer of its pre-flight or of its last extend, or their `authorization`."""

Amount: TypeAlias = "Decimal | str | int"
"""USD, exactly; never a float."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. Its bytes and key stay the same over every retry, so that a replay is a replay."""

    method: str
    path: str
    body: bytes | None = None
    idempotency_key: str | None = None
    wait_seconds: float = 0.0
    """How long the server may take beyond the usual, since it was asked to wait."""
    headers: tuple[tuple[str, str], ...] = ()


class CallOptions(TypedDict, total=False):
    """What a pre-flight may say beside model and input; everything is optional."""

    max_output_tokens: int | None
    """Cap of the call's output. Without one the tenant's default applies: use the cap of the answer."""
    provider: str | None
    """Needed only where several providers offer the model."""
    customer: str | None
    user: str | None
    project: str | None
    run: str | None
    plan: str | None
    tags: Mapping[str, str] | None
    """At most ten."""
    n: int
    """How many completions the call asks for."""
    ttl_seconds: int | None
    """How long the hold lives, 1 to 900; what is never settled is presumed spent after it."""
    wait_ms: int | None
    """How long the server may wait for holds in flight, 0 to 10,000; 0 also ends waiting on this side."""
    fit: bool
    """Lower `max_output_tokens` to what fits instead of refusing."""
    dry_run: bool
    """Decide without placing a hold."""
    cost_usd: Amount | None
    """Your own estimate, for tools and models without a price; settle such a call with its `cost_usd`."""
    cached_input_tokens: int | None
    images: int | None
    audio: bool
    """Whether audio goes in or out, which many models charge more for."""
    tools: Mapping[str, int] | None
    """Uses of the provider's own tools, by name."""
    fingerprint: str | None
    """Equal for equal requests, so that a retry loop can be noticed."""
    service_tier: str | None
    task: str | None
    """What the call is for, such as `extract`: rules of policies may choose its model by that."""
    output: str | None
    """What it is to write, for such rules: text, json, or schema for JSON by a strict schema."""
    steps: int | None
    """How many messages or steps it goes through, for such rules."""
    models: Sequence[str]
    """Models to try after `model`, in order: the first that policies and budgets allow is in the answer."""
    idempotency_key: str | None


@dataclass(frozen=True)
class Preflight:
    """A question whether a call may be made. Raises InvalidRequestError naming every bad field."""

    model: str
    input_tokens: int
    max_output_tokens: int | None = None
    provider: str | None = None
    customer: str | None = None
    user: str | None = None
    project: str | None = None
    run: str | None = None
    plan: str | None = None
    tags: Mapping[str, str] | None = None
    n: int = 1
    ttl_seconds: int | None = None
    wait_ms: int | None = None
    fit: bool = False
    dry_run: bool = False
    cost_usd: Amount | None = None
    cached_input_tokens: int | None = None
    images: int | None = None
    audio: bool = False
    tools: Mapping[str, int] | None = None
    fingerprint: str | None = None
    service_tier: str | None = None
    task: str | None = None
    output: str | None = None
    steps: int | None = None
    models: Sequence[str] = ()
    idempotency_key: str | None = None
    waited: float = 0.0
    """Seconds for which it has waited on this side already. Not sent."""

    def __post_init__(self) -> None:
        errors: dict[str, str] = {}
        if not isinstance(self.model, str) or not self.model:
            errors["model"] = "must be the name of a model"
        _check_count(errors, "input_tokens", self.input_tokens, 0)
        _check_count(errors, "n", self.n, 1)
        for name, least, most in (
            ("max_output_tokens", 1, None),
            ("cached_input_tokens", 0, None),
            ("images", 0, None),
            ("steps", 0, None),
            ("ttl_seconds", 1, TTL_SECONDS_MAX),
            ("wait_ms", 0, WAIT_MS_MAX),
        ):
            value = getattr(self, name)
            if value is not None:
                _check_count(errors, name, value, least, most)
        for name in (*_SUBJECT, "provider", "fingerprint", "service_tier", "task", "idempotency_key"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                errors[name] = "must be a text that is not empty"
        _check_tags(errors, self.tags)
        for name, count in (self.tools or {}).items():
            _check_count(errors, f"tools.{name}", count, 0)
        _check_amount(errors, "cost_usd", self.cost_usd)
        if self.output not in (None, "text", "json", "schema"):
            errors["output"] = "must be text, json or schema"
        if not all(isinstance(name, str) and name for name in self.models):
            errors["models"] = "must be names of models"
        if errors:
            raise InvalidRequestError("The pre-flight is invalid", errors=errors)

    def to_request(self, *, wait_ms: int) -> Request:
        """Returns the request; `wait_ms` is what the client decided on."""
        body = self.to_wire(wait_ms=wait_ms)
        return post("/v1/preflight", body, self.idempotency_key, wait_seconds=wait_ms / 1000)

    def to_wire(self, *, wait_ms: int) -> dict[str, Any]:
        """Returns the request's JSON object."""
        body: dict[str, Any] = {"model": self.model, "input_tokens": self.input_tokens}
        for name in _PLAIN:
            value = getattr(self, name)
            if value is not None:
                body[name] = dict(value) if isinstance(value, Mapping) else value
        if self.n != 1:
            body["n"] = self.n
        for name in ("audio", "fit", "dry_run"):
            if getattr(self, name):
                body[name] = True
        if self.models:
            body["models"] = list(self.models)
        if self.cost_usd is not None:
            body["cost_usd"] = format(Decimal(self.cost_usd), "f")
        subject = {name: getattr(self, name) for name in _SUBJECT if getattr(self, name) is not None}
        if subject:
            body["subject"] = subject
        if wait_ms:
            body["wait_ms"] = wait_ms
        return body


_SUBJECT = ("project", "customer", "user", "run", "plan")
_PLAIN = (
    "provider",
    "max_output_tokens",
    "tags",
    "ttl_seconds",
    "cached_input_tokens",
    "images",
    "tools",
    "fingerprint",
    "service_tier",
    "task",
    "output",
    "steps",
)


def _check_count(
    errors: dict[str, str], name: str, value: object, least: int, most: int | None = None
) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most and value > most):
        upper = f" to {most}" if most else " upward"
        errors[name] = f"must be a whole number from {least}{upper}"


def _check_tags(errors: dict[str, str], tags: Mapping[str, str] | None) -> None:
    if tags is None:
        return
    if len(tags) > TAGS_MAX:
        errors["tags"] = f"must be at most {TAGS_MAX}"
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in tags.items()):
        errors["tags"] = "must be texts"


def _check_amount(errors: dict[str, str], name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        errors[name] = "must be a Decimal, a text or a whole number of USD; a float is not exact"
        return
    try:
        amount = Decimal(value)
    except InvalidOperation:
        errors[name] = "must be an amount in USD"
        return
    if not amount.is_finite() or amount < 0 or amount != amount.quantize(Decimal("1e-9")):
        errors[name] = "must be an amount in USD of at least 0 with at most nine places"


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def post(path: str, body: object, key: str | None, *, wait_seconds: float = 0.0) -> Request:
    """Returns a POST with an Idempotency-Key, a new one unless given."""
    return Request("POST", path, _encode(body), key or uuid4().hex, wait_seconds)


def _token(authorization: Authorization) -> str:
    token = authorization if isinstance(authorization, str) else authorization.authorization
    if not isinstance(token, str) or not token:
        message = "must be an authorization; a dry run has none to settle"
        raise InvalidRequestError("Nothing to resolve", errors={"authorization": message})
    return token


@dataclass(frozen=True)
class Settlement:
    """One settle of a batch. `usage` None means unknown: the hold is presumed spent, correctably.

    `cost_usd` is what the call cost where the price book cannot tell.
    """

    authorization: Authorization
    usage: Any
    model: str | None = None
    outcome: Outcome = "ok"
    latency_ms: int | None = None
    cost_usd: Amount | None = None

    def to_wire(self) -> dict[str, Any]:
        """Returns the JSON object of this settlement. Raises InvalidRequestError."""
        usage: Usage | None = None if self.usage is None else normalise(self.usage)
        errors: dict[str, str] = {}
        if self.outcome not in ("ok", "error", "cut"):
            errors["outcome"] = "must be ok, error or cut"
        _check_amount(errors, "cost_usd", self.cost_usd)
        if errors:
            raise InvalidRequestError("The settle is invalid", errors=errors)
        # A provider's whole answer names the exact model that it ran.
        model = self.model or read(self.usage, "model")
        wire: dict[str, Any] = {
            "authorization": _token(self.authorization),
            "usage": None if usage is None else usage.to_wire(),
            "outcome": self.outcome,
        }
        if isinstance(model, str):
            wire["model"] = model
        if self.latency_ms is not None:
            wire["latency_ms"] = min(max(int(self.latency_ms), 0), LATENCY_MS_MAX)
        if self.cost_usd is not None:
            wire["cost_usd"] = format(Decimal(self.cost_usd), "f")
        return wire


def settle(settlement: Settlement, key: str | None) -> Request:
    """Returns the request that settles one hold."""
    return post("/v1/settle", settlement.to_wire(), key)


def settle_batch(settlements: Sequence[Settlement], key: str | None) -> Request:
    """Returns the request that settles up to 1,000 holds. Raises InvalidRequestError for none or more."""
    if not 0 < len(settlements) <= BATCH_MAX:
        message = f"must be 1 to {BATCH_MAX}, are {len(settlements)}"
        raise InvalidRequestError("The batch is invalid", errors={"settlements": message})
    return post("/v1/settle/batch", {"settlements": [item.to_wire() for item in settlements]}, key)


def void(authorization: Authorization, key: str | None) -> Request:
    """Returns the request that frees a hold whose call never reached the provider."""
    return post("/v1/void", {"authorization": _token(authorization)}, key)


def extend(hold: Allowed | Extended, ttl_seconds: int, key: str | None) -> Request:
    """Returns the request that lengthens a hold's life. Raises InvalidRequestError, for a dry run's too."""
    errors: dict[str, str] = {}
    _check_count(errors, "ttl_seconds", ttl_seconds, 1, TTL_SECONDS_MAX)
    if not hold.hold_id or not hold.authorization:
        errors["hold"] = "must be what preflight or extend returned; a dry run holds nothing"
    if errors:
        raise InvalidRequestError("The extension is invalid", errors=errors)
    body = {"authorization": hold.authorization, "ttl_seconds": ttl_seconds}
    return post(f"/v1/holds/{quote(str(hold.hold_id), safe='')}/extend", body, key)


def remaining(subject: Mapping[str, str | None]) -> Request:
    """Returns the request for what these subjects have left."""
    named = {name: value for name, value in subject.items() if value is not None}
    return Request("GET", "/v1/remaining" + (f"?{urlencode(named)}" if named else ""))


def prices(provider: str | None, etag: str | None) -> Request:
    """Returns the request for prices, conditional where an older copy is held."""
    query = "" if provider is None else f"?{urlencode({'provider': provider})}"
    return Request("GET", f"/v1/prices{query}", headers=() if etag is None else (("If-None-Match", etag),))
