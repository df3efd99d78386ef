"""Answers to those who try too often: 429, and when to try again, whichever page found it out."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from django.http import HttpRequest, HttpResponse

# How allauth calls the errors of a form whose sender has tried too often.
_CODES: Final = frozenset({"too_many_login_attempts", "rate_limited"})
CLOSED_SECONDS: Final = 300
"""For how long an account is closed after wrong passwords or codes."""
WAIT_SECONDS: Final = 60


class TooManyAttempts:
    """Middleware: gives a form that was refused for too many attempts the status of it, and every 429 a Retry-After."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and not response.has_header("Retry-After"):
            response["Retry-After"] = str(WAIT_SECONDS)
        return response

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        """Looks into the form of a page that was not taken."""
        form = (response.context_data or {}).get("form")
        if request.method == "POST" and response.status_code == HTTPStatus.OK and form is not None:
            codes = {error.code for errors in form.errors.as_data().values() for error in errors}
            if codes & _CODES:
                response.status_code = HTTPStatus.TOO_MANY_REQUESTS
                response["Retry-After"] = str(CLOSED_SECONDS)
        return response
