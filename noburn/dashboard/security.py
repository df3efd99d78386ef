"""The content security policy: pages run our own files and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

HEADER: Final = "Content-Security-Policy"
# Forms may end elsewhere: at Stripe, or at whoever signs a person in.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self' https:; base-uri 'none'; frame-ancestors 'none'"
)
# The operators' admin has styles and scripts of its own within its pages.
_EXEMPT: Final = ("/admin/",)


class ContentSecurityPolicy:
    """Middleware: sets the policy on every page but those that say one of their own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if not request.path.startswith(_EXEMPT) and response.get("Content-Type", "").startswith("text/html"):
            response.setdefault(HEADER, POLICY)
        return response
