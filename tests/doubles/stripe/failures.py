"""What Stripe answers instead of a result, in its own form."""

from __future__ import annotations

from typing import Any


class Failure(Exception):
    """One failed request: its status, Stripe's error object and extra headers.

    `keeps` says whether Stripe's idempotency layer keeps the answer: it does once an endpoint began to work,
    and does not for bad parameters, conflicts and rate limits.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        keeps: bool = False,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.keeps = keeps
        self.headers = dict(headers or {})
        self.error: dict[str, Any] = {"type": kind, "message": message}
        if code is not None:
            self.error["code"] = code
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"
        if param is not None:
            self.error["param"] = param
        self.error.update(extra or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": self.error}


def missing(kind: str, name: str, param: str = "id") -> Failure:
    """No such object in this account; one of another account is answered the same."""
    return Failure(404, f"No such {kind}: '{name}'", code="resource_missing", param=param)


def no_reference(kind: str, name: str, param: str) -> Failure:
    """A parameter names an object that this account does not have."""
    return Failure(400, f"No such {kind}: '{name}'", code="resource_missing", param=param)


def needs(param: str) -> Failure:
    """A parameter that must be there is not."""
    return Failure(400, f"Missing required param: {param}.", code="parameter_missing", param=param)


def rate_limited(message: str, reason: str) -> Failure:
    """Too many requests at once or in a second."""
    return Failure(
        429,
        message,
        code="rate_limit",
        headers={"stripe-rate-limited-reason": reason, "stripe-should-retry": "true"},
    )


def broken() -> Failure:
    """An error of Stripe's own."""
    return Failure(
        500, "An unknown error occurred", kind="api_error", headers={"stripe-should-retry": "false"}
    )


def unavailable() -> Failure:
    """Stripe is out."""
    return Failure(503, "Service unavailable", kind="api_error")
