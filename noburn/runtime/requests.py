"""Where a request begins: with nobody's rows, or, on the few paths that belong to no tenant, with everybody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from noburn.kit.tenancy import across_tenants, for_nobody

SPANNING: Final = (
    "/admin/",  # Operators' pages, of all tenants.
    "/metrics",  # Counts over all tenants.
    "/account/",  # Signing in and up: before it is known who somebody is, and where they work.
    "/enter",  # A person's places.
    "/tenants",  # The same, and founding another.
    "/stripe/webhooks/",  # Stripe names the account; whose it is must be found.
)
"""Paths that span tenants. A tenant's pages (/t/) and the API (/v1/, /api/) find out who asks, and then act for one."""


class TenantScope:
    """The outermost middleware of ours: whatever a view forgets to say, it sees no tenant's rows."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        scope = across_tenants if request.path_info.startswith(SPANNING) else for_nobody
        with scope():
            return self._get_response(request)
