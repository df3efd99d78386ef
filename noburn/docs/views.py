"""The pages under /docs. Anybody may read them."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_safe

from noburn.docs.library import Document, groups, library
from noburn.docs.reference import description, topics
from noburn.docs.search import QUERY_CHARS_MAX, find
from noburn.kit.problems import REGISTRY


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Every document, under headings."""
    return render(request, "docs/index.html", _common())


@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """One document."""
    document = library().get(slug)
    if document is None or (slug.startswith("problems/") and slug.partition("/")[2] not in REGISTRY):
        raise Http404
    return _shown(request, document)


@require_safe
def problem(request: HttpRequest, slug: str) -> HttpResponse:
    """One kind of problem: what happened and what to do. The `type` of each failure is this page's address."""
    if slug not in REGISTRY:
        raise Http404
    return _shown(request, library()[f"problems/{slug}"], title=REGISTRY[slug].title)


def _shown(request: HttpRequest, document: Document, *, title: str = "") -> HttpResponse:
    every = library()
    parent, _, _ = document.slug.rpartition("/")
    context = _common() | {
        "document": document,
        "title": title or document.title,
        # Rendered by noburn.docs.markdown, which passes no HTML of its source.
        "html": mark_safe(document.html),  # noqa: S308
        "headings": [section for section in document.sections if section.level == 2],
        "below": [every[slug] for slug in document.below],
        "parent": every.get(parent) if parent else None,
    }
    return render(request, "docs/page.html", context)


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """What holds the words of `q`."""
    query = request.GET.get("q", "").replace("\x00", "").strip()[:QUERY_CHARS_MAX]
    return render(request, "docs/search.html", _common() | {"query": query, "hits": find(query)})


@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """The topics of the API, and what holds for all of it."""
    context = {"description": description()}
    return render(request, "docs/reference.html", _common() | context)


@require_safe
def topic(request: HttpRequest, topic: str) -> HttpResponse:
    """The operations of one topic."""
    found = next((one for one in topics() if one.slug == topic), None)
    if found is None:
        raise Http404
    return render(request, "docs/topic.html", _common() | {"topic": found})


def _common() -> dict[str, object]:
    return {"groups": groups(), "topics": topics(), "query_chars_max": QUERY_CHARS_MAX}
