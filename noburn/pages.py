"""The few pages that stand before the dashboard: where a browser lands, and what it finds where nothing is."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from noburn.kit.clock import utc_now
from noburn.kit.ids import new_uuid
from noburn.kit.problems import CONTENT_TYPE, problem, to_bytes
from tenants.services.founding import signup_open

_PROVISION = """.venv/bin/python manage.py provision --tenant acme \\
    --budget 'customer:*:10:month' --json"""
_CURL = """curl BASE_URL/v1/preflight \\
  -H "Authorization: Bearer $NOBURN_API_KEY" \\
  -H "Idempotency-Key: first-call" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gpt-4o-mini", "input_tokens": 1200,
       "max_output_tokens": 500, "subject": {"customer": "alice"}}'"""


def home(request: HttpRequest) -> HttpResponse:
    """Says that noburn runs here, and what to do next; who is signed in is led on."""
    if request.user.is_authenticated:
        return HttpResponseRedirect(reverse("enter"))
    context = {
        "provision": _PROVISION,
        "curl": _CURL.replace("BASE_URL", settings.BASE_URL),
        "signup": signup_open(),
        # Who moved it meant it to be found by those who know where it is.
        "admin": "/admin/" if settings.NOBURN_ADMIN_PATH == "admin" else "",
    }
    return render(request, "noburn/home.html", context)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 (Django names it)
    """A page for people, problem+json for programs."""
    if not request.path.startswith(("/v1/", "/api/")):
        return render(request, "noburn/not_found.html", status=404)
    body = to_bytes(
        problem("not-found", f"There is no {request.path}."),
        new_uuid(utc_now()).hex[-16:],
        base_url=settings.BASE_URL,
    )
    return HttpResponse(body, status=404, content_type=CONTENT_TYPE)
