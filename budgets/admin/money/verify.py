"""Verification of one tenant on demand: what `manage.py verify --tenant` does, for as long as a person waits."""

from __future__ import annotations

import asyncio
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from budgets.admin.money.pages import FilterForm, TenantField, money_page, shown, table
from budgets.services.operations import Operations, RedisUnavailable, StorageUnavailable
from budgets.services.verification import Verification

SECONDS_MAX = 20
DIFFERENCES_MAX = 200


class VerifyForm(FilterForm):
    """Whose figures are recomputed."""

    tenant = TenantField()


@money_page
def verify_tenant(request: HttpRequest) -> HttpResponse:
    """Recomputes every figure of a tenant from its sources, when it is asked to."""
    form = VerifyForm(request.GET) if "tenant" in request.GET else VerifyForm()
    found: Verification | None = None
    problem = ""
    # A POST, so that nothing but a person's click starts it.
    if request.method == "POST":
        form = VerifyForm(request.POST)
        if form.is_valid():
            try:
                found = asyncio.run(_verify(form.cleaned_data["tenant"].pk))
            except TimeoutError:
                problem = f"Not done in {SECONDS_MAX} seconds. Use `manage.py verify --tenant` for this one."
            except (StorageUnavailable, RedisUnavailable) as error:
                problem = f"Cannot be done now, and can be repeated: {error}"
    rows = found.differences[:DIFFERENCES_MAX] if found else ()
    return shown(
        request,
        "admin/operator/verify.html",
        title="Verify a tenant",
        form=form,
        found=found,
        problem=problem,
        table=table(
            ("What", "Figure", "Stored", "Should be"),
            [[row.object, row.figure, f"{row.stored:,}", f"{row.derived:,}"] for row in rows],
        ),
    )


async def _verify(tenant_id: UUID) -> Verification:
    urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_URL}
    async with asyncio.timeout(SECONDS_MAX), Operations.connected(**urls) as operations:
        return await operations.verify(tenant_id)
