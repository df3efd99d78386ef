"""POST /api/v1/revenue: what a customer paid, in the original client's words; docs/original-client.md."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from billing.services.reported import Reported, report_payment
from noburn.kit import ids
from noburn.kit.clock import utc_now
from noburn.kit.loose_json import Fields, object_of
from noburn.kit.problems import ProblemError, problem
from noburn.kit.rest.handler import answer, request_id
from noburn.kit.tenancy import act_for
from tenants.models import KeyScope, Project
from tenants.services.access import Access
from tenants.services.rates import known_key, require_rate

BODY_BYTES_MAX = 65_536
AHEAD = timedelta(days=1)
"""How far in the future a payment may lie: clocks differ, and so do days."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@csrf_exempt
def report_revenue(request: HttpRequest) -> HttpResponse:
    """Keeps a payment and answers 202. A failure is problem+json; the client drops what 4xx refuses and counts it."""
    try:
        return JsonResponse({"status": _report(request)}, status=202)
    except ProblemError as error:
        return answer(error.problem, request_id())
    except OperationalError:
        return answer(
            problem("storage-unavailable", "The database cannot be reached; nothing was kept."), request_id()
        )


def _report(request: HttpRequest) -> str:
    if request.method != "POST":
        detail = f"{request.path} takes POST, not {request.method}."
        raise ProblemError(problem("method-not-allowed", detail, allowed=["POST"]))
    now = utc_now()
    access = _access(request, now)
    act_for(access.tenant_id)
    require_rate(access)
    body = request.read(BODY_BYTES_MAX + 1)
    if len(body) > BODY_BYTES_MAX:
        raise ProblemError(
            problem("body-too-large", f"At most {BODY_BYTES_MAX} bytes of body are read here.")
        )
    fields = Fields(raw := object_of(body))
    at = _time(fields, fields.text("occurred_at"), now)
    if raw.get("amount_usd") is None:
        fields.bad("amount_usd", "is missing")
    payment = Reported(
        project=fields.text("project_id", needed=True),
        customer=fields.text("end_user_id", needed=True),
        amount_nano=fields.amount("amount_usd", negative=True),
        occurred_at=at,
        external_id=fields.text("external_id"),
        source=fields.text("source"),
    )
    fields.done()
    payment = replace(payment, project=_project(access, payment.project))
    kept = report_payment(tenant_id=access.tenant_id, payment=payment, now=now)
    return "recorded" if kept else "duplicate"


def _access(request: HttpRequest, now: datetime) -> Access:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise ProblemError(problem("unauthorized", "Send the API key as `Authorization: Bearer nb_live_…`."))
    access = known_key(request, text=secret, now=now)
    # Of what an application tells after its calls, as a settlement is.
    if not access.scopes & {KeyScope.SETTLE, KeyScope.MANAGE}:
        raise ProblemError(problem("forbidden-scope", "This API key lacks the scope 'settle'."))
    return access


def _time(fields: Fields, text: str, now: datetime) -> datetime:
    if not text:
        return now
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        fields.bad("occurred_at", "must be a time such as 2026-10-01T09:30:00Z")
        return now
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not EARLIEST <= at <= now + AHEAD:
        fields.bad("occurred_at", "must lie between the year 2000 and tomorrow")
        return now
    return at


def _project(access: Access, name: str) -> str:
    """The project that the client names, by its name or its id. Raises ProblemError with 403, which the client shows."""
    projects = Project.objects.filter(tenant_id=access.tenant_id)
    found = projects.filter(slug=name).first()
    if found is None:
        try:
            found = projects.filter(pk=ids.decode(ids.PROJECT, name)).first()
        except ids.BadId:
            found = None
    if found is None:
        detail = f"This API key's tenant has no project {name!r}. Send a project's name or id as project_id."
        raise ProblemError(problem("forbidden-scope", detail))
    if access.project and found.slug != access.project:
        raise ProblemError(problem("forbidden-scope", f"This API key belongs to project {access.project!r}."))
    return found.slug
