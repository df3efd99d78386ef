"""The data plane's requests: their shapes, limits and defaults. Unknown fields are ignored with a warning."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from budgets.domain.authorization import TOKEN_CHARS_MAX
from budgets.domain.pricing_rates import MAX_COUNT, Usage
from noburn.kit.problems import FieldError, ProblemError, problem

T = TypeVar("T", bound=msgspec.Struct)

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Label = Annotated[str, Meta(max_length=200)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Token = Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARS_MAX)]
Amount = Annotated[str, Meta(max_length=32)]

TAGS_MAX: Final = 10
TTL_SECONDS_DEFAULT: Final = 120
BATCH_MAX: Final = 1000
MODELS_MAX: Final = 8


class Subject(msgspec.Struct, frozen=True):
    """Who a call is for; all optional."""

    project: Label | None = None
    customer: Label | None = None
    user: Label | None = None
    run: Label | None = None
    plan: Label | None = None


class Preflight(msgspec.Struct, frozen=True):
    """POST /v1/preflight. `cost_usd` is a caller's own estimate, for tools and models without a price.

    `models` are tried in order after `model`, which may be left out then. `task`, `output` (what it is to write) and
    `steps` (messages that it goes through) are for rules of policies.
    """

    model: Name
    input_tokens: Count = 0
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_COUNT)] | None = None
    provider: Name | None = None
    subject: Subject = Subject()
    tags: dict[Annotated[str, Meta(min_length=1, max_length=64)], Label] = {}
    ttl_seconds: Annotated[int, Meta(ge=1, le=900)] = TTL_SECONDS_DEFAULT
    dry_run: bool = False
    n: Annotated[int, Meta(ge=1, le=128)] = 1
    cached_input_tokens: Count | None = None
    images: Annotated[int, Meta(ge=0, le=10_000)] = 0
    audio: bool = False
    tools: dict[Annotated[str, Meta(max_length=64)], Annotated[int, Meta(ge=0, le=10_000)]] = {}
    fingerprint: Label | None = None
    service_tier: Label | None = None
    cost_usd: Amount | None = None
    fit: bool = False
    wait_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    models: Annotated[tuple[Name, ...], Meta(max_length=MODELS_MAX)] = ()
    task: Label | None = None
    output: Annotated[str, Meta(pattern="^(text|json|schema)$")] | None = None
    steps: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Settle(msgspec.Struct, frozen=True):
    """POST /v1/settle. `usage` null: nothing was seen of the call, so all of its hold is presumed.

    It may be left out only where `cost_usd` says what the call cost.
    """

    authorization: Token
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    model: Label = ""
    outcome: Annotated[str, Meta(pattern="^(ok|error|cut)$")] = "ok"
    latency_ms: Annotated[int, Meta(ge=0, le=2_147_483_647)] | None = None
    cost_usd: Amount | None = None


class SettleBatch(msgspec.Struct, frozen=True):
    """POST /v1/settle/batch. Items are read one by one, so that a bad one spoils no other."""

    settlements: Annotated[list[Any], Meta(min_length=1, max_length=BATCH_MAX)]


class Void(msgspec.Struct, frozen=True):
    """POST /v1/void, for a call that never reached the provider."""

    authorization: Token


class Extend(msgspec.Struct, frozen=True):
    """POST /v1/holds/{id}/extend: `ttl_seconds` from now."""

    authorization: Token
    ttl_seconds: Annotated[int, Meta(ge=1, le=900)] = TTL_SECONDS_DEFAULT


_any = msgspec.json.Decoder()
_SUBJECT = frozenset(Subject.__struct_fields__)


@cache
def _known_fields(shape: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(shape.__struct_fields__)


def ignored(unknown: tuple[str, ...]) -> list[str]:
    """The warnings about fields that `read` did not know."""
    return [f"field {name!r} is not known and was ignored" for name in unknown]


def read(body: bytes, shape: type[T]) -> tuple[T, tuple[str, ...]]:
    """Reads a body; returns it with the names of fields it does not know. Raises ProblemError naming every bad field."""
    if b"\\u0000" in body:
        # PostgreSQL's texts cannot hold it: such a call could be held, but never be recorded.
        raise ProblemError(problem("invalid-request", detail="No text may contain the character \\u0000."))
    try:
        raw = _any.decode(body)
    except RecursionError as error:
        raise ProblemError(problem("invalid-request", detail="The body is nested too deeply.")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(
            problem("invalid-request", detail=f"The body is not JSON in UTF-8: {error}.")
        ) from error
    return read_object(raw, shape)


def read_object(raw: Any, shape: type[T]) -> tuple[T, tuple[str, ...]]:
    """As `read`, of JSON that is decoded already."""
    if type(raw) is not dict:
        raise ProblemError(problem("invalid-request", detail="The body must be a JSON object."))
    known = _known_fields(shape)
    if shape is Preflight and "model" not in raw and type(models := raw.get("models")) is list and models:
        raw = {**raw, "model": models[0]}
    unknown = tuple(sorted(raw.keys() - known)[:20]) if raw.keys() - known else ()
    if type(subject := raw.get("subject")) is dict and subject.keys() - _SUBJECT:
        unknown += tuple(f"subject.{name}" for name in sorted(subject.keys() - _SUBJECT)[:20])
    try:
        return msgspec.convert(raw, shape), unknown
    except msgspec.ValidationError as error:
        raise ProblemError(
            problem(
                "invalid-request",
                detail="Some fields are not valid.",
                errors=_field_errors(raw, shape) or _one(error),
            )
        ) from error


def _one(error: msgspec.ValidationError) -> list[FieldError]:
    message, _, path = str(error).partition(" - at `$")
    return [FieldError(path.rstrip("`").lstrip(".") or "body", message)]


def _field_errors(raw: dict[str, Any], shape: type[msgspec.Struct]) -> list[FieldError]:
    """Checks each field on its own, since a conversion stops at the first error."""
    errors = []
    for field in msgspec.structs.fields(shape):
        if field.name not in raw:
            if field.required:
                errors.append(FieldError(field.name, "is missing"))
            continue
        try:
            msgspec.convert(raw[field.name], field.type)
        except msgspec.ValidationError as error:
            (inner,) = _one(error)
            name = field.name if inner.field == "body" else f"{field.name}.{inner.field}"
            errors.append(FieldError(name, inner.message))
    return errors
