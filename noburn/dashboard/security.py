"""What browsers are told about our answers: whose files a page may run, who may frame it, what it may ask of a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

from noburn.runtime.requests import admin_path

HEADER: Final = "Content-Security-Policy"
# Forms may end elsewhere: at Stripe, or at whoever signs a person in.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self' https:; base-uri 'none'; frame-ancestors 'none'"
)
# The admin's own interface evaluates expressions of its templates and sets styles in its pages; no page of it has a
# script of its own within, and none runs.
ADMIN_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Of what is no page nothing runs, and nobody frames it.
DATA_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PERMISSIONS: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "browsing-topics",
        "camera",
        "display-capture",
        "geolocation",
        "gyroscope",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "serial",
        "usb",
    )
)


class ContentSecurityPolicy:
    """Middleware: sets the policy on every answer but those that say one of their own, and what devices keep to
    themselves."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not response.get("Content-Type", "").startswith("text/html"):
            response.setdefault(HEADER, DATA_POLICY)
        elif request.path.startswith(admin_path()):
            response.setdefault(HEADER, ADMIN_POLICY)
        else:
            response.setdefault(HEADER, POLICY)
        response.setdefault("Permissions-Policy", PERMISSIONS)
        return response
