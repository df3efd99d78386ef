"""Where a request begins: with nobody's rows, or, on the few paths that belong to no tenant, with everybody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from noburn.kit.tenancy import across_tenants, for_nobody


def admin_path() -> str:
    """Where the operators' admin is, as addresses spell it: `/admin/`."""
    return f"/{settings.NOBURN_ADMIN_PATH}/"


SPANNING: Final = (
    admin_path(),  # Operators' pages, of all tenants.
    "/metrics",  # Counts over all tenants.
    "/account/",  # Signing in and up: before it is known who somebody is, and where they work.
    "/enter",  # A person's places.
    "/tenants",  # The same, and founding another.
    "/stripe/webhooks/",  # Stripe names the account; whose it is must be found.
)
"""Paths that span tenants. A tenant's pages (/t/) and the API (/v1/, /api/) find out who asks, and then act for one."""


class TenantScope:
    """The outermost middleware of ours: whatever a view forgets to say, it sees no tenant's rows."""

    sync_capable = True
    # Otherwise each request would change threads once more.
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer(request)
        with _begin(request):
            response: HttpResponseBase = self._get_response(request)
            return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        with _begin(request):
            response: HttpResponseBase = await self._get_response(request)
            return response


def _begin(request: HttpRequest) -> AbstractContextManager[None]:
    return across_tenants() if request.path_info.startswith(SPANNING) else for_nobody()
