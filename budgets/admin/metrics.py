"""`/metrics`: what the checker found, in Prometheus's text format, for whoever has the installation's token."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence

from django.conf import settings
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from budgets.queries import checks
from budgets.queries.bounded import TookTooLong, limited

READ_MS = 2_000
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """The gauges. 404 without METRICS_TOKEN, 401 without that token, 503 while PostgreSQL is away."""
    if not settings.METRICS_TOKEN:
        raise Http404
    told = request.headers.get("Authorization", "")
    if not hmac.compare_digest(told.encode(), f"Bearer {settings.METRICS_TOKEN}".encode()):
        return HttpResponse("Authorization: Bearer METRICS_TOKEN is missing or wrong.\n", status=401)
    try:
        with limited(milliseconds=READ_MS):
            lines = list(_lines())
    except (OperationalError, TookTooLong):
        return HttpResponse("PostgreSQL does not answer in time.\n", status=503)
    return HttpResponse("\n".join([*lines, ""]), content_type=CONTENT_TYPE)


def _lines() -> Iterator[str]:
    parts = checks.checks()
    for name, key, about in (
        ("noburn_verify_age_seconds", "age_seconds", "Seconds since this part of the checker last finished."),
        ("noburn_verify_took_milliseconds", "took_ms", "How long it took."),
        ("noburn_verify_looked_at", "looked_at", "Figures, counters or tenants that it compared."),
        ("noburn_verify_differences", "differences", "Figures that are not what their sources say: drift."),
        ("noburn_verify_behind", "behind", "What was due and not looked at."),
    ):
        yield from _gauge(name, about, [(f'{{part="{part["part"]}"}}', part[key]) for part in parts])
    redis: dict[str, float] = next((part["details"] for part in parts if part["part"] == "redis"), {})
    for key, about in (
        ("open_holds", "Holds in flight."),
        ("unapplied", "Resolved holds that Redis has not heard of yet."),
        ("overdue", "Holds that expired over a minute ago and that nobody swept."),
    ):
        yield from _gauge(f"noburn_holds_{key}", about, [("", redis[key])] if key in redis else [])
    seconds, never = checks.oldest_turn()
    about = "Seconds since the tenant that waited longest was recomputed from nothing."
    yield from _gauge("noburn_verify_oldest_recount_seconds", about, [("", seconds)])
    about = "Tenants whose ledger was never recomputed within a round's time."
    yield from _gauge("noburn_verify_never_recounted", about, [("", never)])
    about = "Shards by the state of their epoch."
    epochs = [(f'{{state="{state}"}}', count) for state, count in checks.epochs().items()]
    yield from _gauge("noburn_epochs", about, epochs)


def _gauge(name: str, about: str, samples: Sequence[tuple[str, float]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        yield f"{name}{labels} {value:g}"
