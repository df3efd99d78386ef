"""The live feed of decisions: server-sent events, of one tenant, for a bounded time and to a bounded number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.template.loader import render_to_string

from budgets.dashboard.decided import shown
from budgets.queries.decisions import DecisionFilter, decisions
from noburn.kit import ids
from noburn.kit.tenancy import for_tenant
from tenants.dashboard.page import TenantPage
from tenants.domain.roles import Topic
from tenants.models import Tenant

STREAMS_MAX: Final = 100
"""The most streams of one process, and of one tenant in it: each asks the database every other second."""

STREAMS_OF_TENANT_MAX: Final = 10
POLL_SECONDS: Final = 2.0
POLLS_MAX: Final = 150
"""After five minutes the browser connects anew, and is asked for its rights again."""

ROWS_MAX: Final = 20
RETRY_MS: Final = 3_000
BUSY_RETRY_MS: Final = 30_000

FIRST: Final = UUID(int=0)
"""Before every decision: where a feed begins that has seen none."""

_open: Counter[UUID] = Counter()


class Feed(TenantPage):
    """Decisions as they are logged; each event is a row of the page, and its id the decision's."""

    topic = Topic.USAGE
    section = "overview"
    title = "Decisions"

    def get(  # type: ignore[override]  # A stream is no HttpResponse, and a view may answer with one.
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Begins a stream behind the decision that the browser has seen last."""
        seen = request.headers.get("Last-Event-ID") or request.GET.get("after", "")
        try:
            after = ids.decode(ids.DECISION, seen) if seen else None
        except ids.BadId:
            return HttpResponse("after: must be the id of a decision", status=400, content_type="text/plain")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if _open.total() >= STREAMS_MAX or _open[self.tenant_id] >= STREAMS_OF_TENANT_MAX:
            # As a stream that ends at once: a browser never asks again after another answer.
            return HttpResponse(
                f"retry: {BUSY_RETRY_MS}\n\n", content_type="text/event-stream", headers=headers
            )
        return StreamingHttpResponse(
            stream(self.tenant, after), content_type="text/event-stream", headers=headers
        )


async def stream(tenant: Tenant, after: UUID | None) -> AsyncIterator[str]:
    """Yields events until the browser goes or the time is up; a comment in each round keeps proxies awake."""
    _open[tenant.pk] += 1
    try:
        yield f"retry: {RETRY_MS}\n\n"
        for _ in range(POLLS_MAX):
            events, after = await _events(tenant, after)
            yield events or ": nothing new\n\n"
            await asyncio.sleep(POLL_SECONDS)
    finally:
        _open[tenant.pk] -= 1
        if not _open[tenant.pk]:
            del _open[tenant.pk]


@sync_to_async(thread_sensitive=False)
def _events(tenant: Tenant, after: UUID | None) -> tuple[str, UUID | None]:
    """What was logged behind `after`, oldest first: of a burst the newest ROWS_MAX. Without `after`: where to begin."""
    # The request, and its scope, ended when the stream began.
    with for_tenant(tenant.pk):
        return _found(tenant, after)


def _found(tenant: Tenant, after: UUID | None) -> tuple[str, UUID | None]:
    try:
        wanted = DecisionFilter(tenant_id=tenant.pk, after=after)
        rows = decisions(wanted=wanted, before=None, limit=ROWS_MAX if after else 1)
        if not rows:
            return "", after or FIRST
        if after is None:
            return "", rows[0]["id"]
        return "".join(_event(tenant, row) for row in reversed(shown(tenant.pk, rows))), rows[0]["id"]
    finally:
        # Each question may come from another thread of the pool, none of which should keep a connection.
        connection.close()


def _event(tenant: Tenant, decision: dict[str, Any]) -> str:
    context = {"tenant": tenant, "zone": tenant.time_zone, "decision": decision}
    html = render_to_string("budgets/_feed_row.html", context)
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"id: {decision['wire_id']}\nevent: decision\n{lines}\n"
