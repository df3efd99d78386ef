"""How often the management API answers: by key, by tenant, and to addresses that guess keys or report them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from noburn.kit import ids
from noburn.kit.addresses import caller
from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rates import Buckets, Rate, refused
from tenants.models import Tenant
from tenants.models.tenancy import RATE_RANGE
from tenants.services import audit
from tenants.services.access import Access, UnknownKey, key_access
from tenants.services.signals import tell_policy_changed
from tenants.services.tenants import lock_tenant

BURST_SECONDS: Final = 20
"""For how many seconds' worth of requests may come at once: a page of a program's own asks for much and then rests."""
REPORTS: Final = Rate(0.5, 30)
"""How many leaked keys one address reports."""

_actors, _tenants, _callers, _reporters = Buckets(), Buckets(), Buckets(), Buckets()


class InvalidRates(Invalid):
    """Rates that nobody can have."""


def require_rate(access: Access) -> Mapping[str, str]:
    """Counts a request and returns the headers that tell how many are left. Raises a too-many-requests problem."""
    now, own = time.monotonic(), access.tenant.requests_per_second
    each = _rate(settings.NOBURN_KEY_REQUESTS_PER_SECOND if own is None else own)
    tenant = _rate(settings.NOBURN_REQUESTS_PER_SECOND if own is None else own)
    if wait := _actors.take(access.actor, each, now):
        raise refused("This API key" if access.role is None else "Your session", each, wait)
    if wait := _tenants.take(access.tenant_id, tenant, now):
        raise refused("This tenant", tenant, wait)
    left = _actors.left(access.actor, each, now)
    return {
        "RateLimit-Limit": str(each.burst),
        "RateLimit-Remaining": str(left),
        "RateLimit-Reset": str(-int(-(each.burst - left) // each.per_second)),
    }


def known_key(request: HttpRequest, *, text: str, now: datetime) -> Access:
    """Returns what the API key of a request may do, as `key_access`; one that nobody knows is counted.

    Raises ProblemError: too-many-requests when the address has come with too many of them. Known keys pass whatever
    else comes from their address: whoever shares it with those who guess is not kept out.
    """
    try:
        return key_access(text=text, now=now)
    except UnknownKey:
        _count_guess(request)
        raise


def _count_guess(request: HttpRequest) -> None:
    rate = Rate(settings.NOBURN_WRONG_KEYS_PER_MINUTE / 60, settings.NOBURN_WRONG_KEYS_PER_MINUTE)
    if wait := _callers.take(caller_of(request), rate, time.monotonic()):
        raise refused("Your address, with API keys that no tenant knows,", rate, wait)


def require_few_reports(request: HttpRequest) -> None:
    """Counts a report of a leaked key. Raises a too-many-requests problem."""
    if wait := _reporters.take(caller_of(request), REPORTS, time.monotonic()):
        raise refused("Your address, reporting keys,", REPORTS, wait)


def caller_of(request: HttpRequest) -> str:
    """Whom a request is from, as attempts are counted."""
    return caller(
        str(request.META.get("REMOTE_ADDR") or ""),
        request.headers.get("X-Forwarded-For", ""),
        proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
    )


def set_rates(*, tenant_id: UUID, rates: Mapping[str, int | None], actor: str, now: datetime) -> Tenant:
    """Gives a tenant rates of its own, `calls_per_second` and `requests_per_second`; None: the installation's.

    Raises TenantNotFound, InvalidRates.
    """
    low, high = RATE_RANGE
    errors = [
        FieldError(name, f"must be between {low} and {high}")
        for name, rate in rates.items()
        if rate is not None and not low <= rate <= high
    ]
    if errors:
        raise InvalidRates(errors)
    with transaction.atomic():
        tenant = lock_tenant(tenant_id=tenant_id)
        before = {name: getattr(tenant, name) for name in rates}
        if before == rates:
            return tenant
        for name, rate in rates.items():
            setattr(tenant, name, rate)
        tenant.save(update_fields=list(rates))
        audit.record(
            tenant_id=tenant_id,
            actor=actor,
            action="tenant.set_rates",
            object=ids.encode(ids.TENANT, tenant_id),
            before=before,
            after=dict(rates),
            now=now,
        )
        tell_policy_changed(tenant_id=tenant_id, now=now)
    return tenant


def _rate(per_second: int) -> Rate:
    return Rate(per_second, per_second * BURST_SECONDS)
