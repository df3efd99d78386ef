"""Turns whatever a view raised into application/problem+json, and names every field that is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.views import set_rollback

from noburn.kit.clock import utc_now
from noburn.kit.ids import new_uuid
from noburn.kit.problems import (
    CONTENT_TYPE,
    FieldError,
    Invalid,
    Missing,
    Problem,
    ProblemError,
    problem,
    to_bytes,
)
from noburn.kit.rates import headers_of

log = logging.getLogger(__name__)

ERRORS_MAX = 100
"""The most errors that one answer names: a batch of 1,000 bad items need not come back whole."""

NOTHING_HERE = "There is nothing here under this address, or it is not yours."


def request_id() -> str:
    """Makes the id that names a request in answers and logs."""
    return new_uuid(utc_now()).hex


def answer(failure: Problem, instance: str) -> HttpResponse:
    """Returns a problem as a response."""
    body = to_bytes(failure, instance, base_url=settings.BASE_URL)
    response = HttpResponse(body, status=failure.status, content_type=CONTENT_TYPE)
    if allowed := failure.extra.get("allowed"):
        response["Allow"] = ", ".join(allowed)
    if failure.status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="noburn"'
    if failure.status == 503:
        response["Retry-After"] = "1"
    for name, value in headers_of(failure).items():
        response[name] = value
    return response


def handle(error: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """Django REST framework's EXCEPTION_HANDLER."""
    set_rollback()
    instance = getattr(context.get("view"), "request_id", "") or request_id()
    failure = _problem(error)
    if failure is None:
        log.error("request %s failed", instance, exc_info=error)
        failure = problem("internal-error", "Something is wrong on our side; it was logged.")
    return answer(failure, instance)


def _problem(error: Exception) -> Problem | None:
    match error:
        case ProblemError():
            return error.problem
        case Invalid():
            return invalid(error.errors)
        case Missing() | Http404() | exceptions.NotFound():
            # Word for word the same for what is another tenant's and what never was.
            return problem("not-found", NOTHING_HERE)
        case exceptions.ValidationError():
            return invalid(field_errors(error.detail))
        case exceptions.ParseError():
            return problem("invalid-request", f"The body cannot be read: {error.detail}")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return problem("unauthorized", str(error.detail))
        case exceptions.PermissionDenied() | PermissionDenied():
            return problem("forbidden-role", str(error) or "This is not allowed.")
        case exceptions.MethodNotAllowed():
            return problem("method-not-allowed", str(error.detail))
        case exceptions.UnsupportedMediaType():
            return problem("unsupported-media", "Send `Content-Type: application/json`.")
        case RequestDataTooBig():
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            return problem("body-too-large", f"At most {most} bytes of body are read here.")
        case OperationalError():
            return problem("storage-unavailable", "The database cannot be reached; nothing was changed.")
    return None


def invalid(errors: Sequence[FieldError]) -> Problem:
    """Returns the problem of a request whose fields break rules."""
    if len(errors) > ERRORS_MAX:
        detail = f"{len(errors)} fields are not valid; these are the first {ERRORS_MAX}."
        return problem("invalid-request", detail, errors[:ERRORS_MAX])
    return problem("invalid-request", "Some fields are not valid.", errors)


def field_errors(detail: Any) -> list[FieldError]:
    """Returns what a serializer found wrong, each by its path: `items[3].limit_usd`."""
    return list(_flat("", detail))


def _flat(path: str, detail: Any) -> Iterator[FieldError]:
    """Spells nested errors by path: `items[3].limit_usd`."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            yield from _flat(_below(path, name), inner)
    elif isinstance(detail, list | tuple):
        for at, inner in enumerate(detail):
            if isinstance(inner, Mapping | list | tuple):
                yield from _flat(f"{path}[{at}]", inner)
            else:
                yield FieldError(path or "body", _plain(str(inner)))
    else:
        yield FieldError(path or "body", _plain(str(detail)))


def _below(path: str, name: object) -> str:
    """Spells where an inner error stands. What concerns a whole object is told under the object's own name."""
    if name == "non_field_errors":
        return path
    if isinstance(name, int):
        return f"{path}[{name}]"
    return f"{path}.{name}" if path else str(name)


def _plain(message: str) -> str:
    """Spells a message as ours are: no capital first, no full stop."""
    if message.startswith("This field "):
        message = message.removeprefix("This field ")
    return (message[:1].lower() + message[1:]).rstrip(".")
