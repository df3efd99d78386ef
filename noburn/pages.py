"""The few pages that stand before the dashboard: where a browser lands, and the page that each problem's type names."""

from __future__ import annotations

import re

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from noburn.kit.clock import utc_now
from noburn.kit.ids import new_uuid
from noburn.kit.problems import CONTENT_TYPE, REGISTRY, problem, to_bytes

PROBLEMS = settings.BASE_DIR / "docs" / "problems"
# The heading, and the slug and status that the page shows by itself.
_LEAD = re.compile(r"^# .*\n+`[a-z-]+`, HTTP \d+\.\s*")


def home(request: HttpRequest) -> HttpResponse:
    """Says that noburn runs here, and what to do next."""
    return render(request, "noburn/home.html", {"base_url": settings.BASE_URL})


def problem_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One kind of problem: what happened and what to do."""
    if slug not in REGISTRY:
        raise Http404
    kind = REGISTRY[slug]
    text = _LEAD.sub("", (PROBLEMS / f"{slug}.md").read_text()).replace("**", "").replace("`", "")
    paragraphs = [p.strip() for p in text.split("\n\n") if p.strip()]
    return render(request, "noburn/problem.html", {"kind": kind, "slug": slug, "paragraphs": paragraphs})


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
