"""Failures on the wire: application/problem+json, one documented page for each kind.

Source: RFC 9457. `type` is the address of a page in docs/problems, `instance` names the request in our logs.
A refusal of a call for want of budget is no failure and never comes from here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all problems of one slug share."""

    title: str
    status: int


REGISTRY: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "invalid-request": Kind("The request is not valid", 400),
        "idempotency-key-missing": Kind("The Idempotency-Key header is missing", 400),
        "invalid-authorization": Kind("The authorization is not one of ours", 400),
        "invalid-signature": Kind("The signature is not valid", 400),
        "unauthorized": Kind("The API key is missing or not valid", 401),
        "forbidden-scope": Kind("The API key may not do this", 403),
        "forbidden-role": Kind("Your role may not do this", 403),
        "second-factor-required": Kind("The tenant asks its members for a second factor", 403),
        "tenant-suspended": Kind("The tenant is suspended", 403),
        "not-found": Kind("There is nothing here", 404),
        "hold-not-found": Kind("There is no such hold", 404),
        "method-not-allowed": Kind("The method is not allowed here", 405),
        "idempotency-conflict": Kind("The Idempotency-Key was used with another request", 409),
        "settle-conflict": Kind("The hold was settled with another usage", 409),
        "epoch-closed": Kind("The hold belongs to a closed epoch", 409),
        "precondition-failed": Kind("It was changed by somebody else", 412),
        "rerating-conflict": Kind("The re-rating cannot be done as things stand", 409),
        "price-overlap": Kind("The price overlaps another one in time", 409),
        "body-too-large": Kind("The body is too large", 413),
        "unsupported-media": Kind("The body must be JSON", 415),
        "unknown-model": Kind("The model is not in the price book", 422),
        "unknown-price": Kind("The price book has no price for this usage", 422),
        "limit-too-large": Kind("The limit is too large", 422),
        "hold-too-long": Kind("The hold would live too long", 422),
        "too-many-budgets": Kind("Too many budgets apply to the call", 422),
        "too-many-subjects": Kind("The tenant has too many customers and users", 422),
        "too-many-runs": Kind("The tenant has too many open runs", 422),
        "stripe-refused": Kind("Stripe refuses the request", 422),
        "too-many-requests": Kind("Too many requests", 429),
        "internal-error": Kind("Something went wrong on our side", 500),
        "counters-unavailable": Kind("The counters cannot be reached", 503),
        "storage-unavailable": Kind("The database cannot be reached", 503),
        "stripe-unavailable": Kind("Stripe cannot be reached", 503),
    }
)
"""Every kind of problem; docs/problems holds a page for each, and a test keeps the two equal."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field of the input; `field` is its name on the wire."""

    field: str
    message: str


class Missing(LookupError):
    """What was asked for is not there, or is another tenant's: nobody can tell which. Services raise subclasses of it."""


class Invalid(ValueError):
    """Input that breaks rules: every broken one, by field. Services raise subclasses of it."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))


@dataclass(frozen=True, slots=True)
class Problem:
    """One failure, ready to be sent. `extra` members stand beside the standard ones and never replace them."""

    type_slug: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldError, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


class ProblemError(Exception):
    """Carries a problem to whoever answers the request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.type_slug}: {problem.detail}")
        self.problem = problem


def problem(slug: str, detail: str, errors: Iterable[FieldError] = (), **extra: Any) -> Problem:
    """Makes a problem of a registered kind. Raises KeyError for an unknown slug."""
    kind = REGISTRY[slug]
    return Problem(slug, kind.title, kind.status, detail, tuple(errors), extra)


def to_bytes(problem: Problem, request_id: str, *, base_url: str = "") -> bytes:
    """Returns the JSON body; without a `base_url` the type is a relative reference, which RFC 9457 allows."""
    body: dict[str, Any] = {
        **problem.extra,
        "type": f"{base_url}/docs/problems/{problem.type_slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": f"urn:request:{request_id}",
    }
    if problem.errors:
        body["errors"] = [{"field": error.field, "message": error.message} for error in problem.errors]
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
