"""Who asks: an API key in the Authorization header, or a member's session cookie."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from noburn.kit.clock import utc_now
from noburn.kit.problems import ProblemError, problem
from tenants.models import User
from tenants.services.access import Access, member_access
from tenants.services.rates import known_key

CHALLENGE = 'Bearer realm="noburn"'


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer nb_live_…`."""

    def authenticate(self, request: Request) -> tuple[None, Access] | None:
        """Returns the key's access as `request.auth`; None without the header. Raises ProblemError."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise ProblemError(
                problem("unauthorized", "Send the API key as `Authorization: Bearer nb_live_…`.")
            )
        return None, known_key(request._request, text=secret.strip(), now=utc_now())

    def authenticate_header(self, request: Request) -> str:
        """Has a missing key answered by 401, not 403."""
        return CHALLENGE


class MemberAuthentication(SessionAuthentication):
    """A member's session; the header `Noburn-Tenant` names the tenant where there are several."""

    def authenticate(self, request: Request) -> tuple[User, Access] | None:
        """Returns the person, and their access as `request.auth`; None if nobody is signed in."""
        found = super().authenticate(request)
        if found is None:
            return None
        user: Any = found[0]
        return user, member_access(user=user, tenant=request.headers.get("Noburn-Tenant", ""))

    def enforce_csrf(self, request: Request) -> None:
        """Refuses a change that another site had the browser send. Raises ProblemError."""
        try:
            super().enforce_csrf(request)
        except Exception as refused:
            message = f"Send the token of the cookie csrftoken as X-CSRFToken with every change. {refused}"
            raise ProblemError(problem("forbidden-role", message)) from refused
