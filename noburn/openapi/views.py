"""GET /v1/openapi.json."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import condition

from noburn.kit.problems import problem
from noburn.kit.rest.handler import answer, request_id
from noburn.openapi.document import document

MAX_AGE_SECONDS = 300


def _etag(_request: HttpRequest) -> str:
    return document()[1]


@condition(etag_func=_etag)
def _show(_request: HttpRequest) -> HttpResponse:
    text, _ = document()
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_SECONDS}", "Access-Control-Allow-Origin": "*"}
    return HttpResponse(text, content_type="application/json", headers=headers)


def show_document(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document, for anybody; browsers of other sites may read it too."""
    if request.method not in ("GET", "HEAD"):
        detail = f"{request.path} takes GET, not {request.method}."
        return answer(problem("method-not-allowed", detail, allowed=["GET", "HEAD"]), request_id())
    return _show(request)
