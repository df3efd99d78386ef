"""Every route under /v1: the management API's from Django's resolver, the data plane's from the gateway's own table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver, get_resolver

PREFIX = "/v1/"

# Plain views have no list of methods to read; whoever adds one says here what it takes.
PLAIN = {"/v1/openapi.json": ("GET",), "/v1/leaked-keys": ("POST",)}


@dataclass(frozen=True)
class Route:
    """One method of one path; `view` and `action` are None and "" for a plain view."""

    method: str
    path: str
    view: Any
    action: str

    @property
    def operation(self) -> tuple[str, str]:
        """The method and path as the document writes them."""
        return self.method, self.path


def management_routes() -> list[Route]:
    """Every route of Django's under /v1. Raises AssertionError for one whose methods nobody knows."""
    return sorted(_walk(get_resolver().url_patterns, ""), key=lambda route: route.operation)


def _walk(patterns: list[URLPattern | URLResolver], before: str) -> Iterator[Route]:
    for pattern in patterns:
        text = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, text)
            continue
        path = _template(text)
        if path.startswith(PREFIX):
            yield from _methods(path, pattern.callback)


def _template(text: str) -> str:
    path = simplify_regex(text.replace("\\.", "."))
    return path.replace("<pk>", "{id}").replace("<", "{").replace(">", "}")


def _methods(path: str, view: Any) -> Iterator[Route]:
    actions: dict[str, str] = getattr(view, "actions", None) or {}
    if actions:
        for method, action in actions.items():
            if method != "head":
                yield Route(method.upper(), path, view.cls, action)
        return
    assert path in PLAIN, f"{path} is no view set: say in tests/api/routes.py which methods it takes"
    for method in PLAIN[path]:
        yield Route(method, path, None, "")


def gateway_operations() -> set[tuple[str, str]]:
    """Every method and path that the gateway serves."""
    from budgets.gateway.app import GatewayApp
    from tests.support.world import gateway_config

    app = GatewayApp(gateway_config())
    assert {path for _, path in app._routes} == app.PATHS
    # Paths with a variable are matched by their ends.
    ends = (
        "/v1/holds/{id}/extend",
        "/v1/leases/{id}/report",
        "/v1/leases/{id}/close",
        "/v1/runs/{id}/stop",
        "/v1/runs/{id}/end",
    )
    assert all(app.handles(path.replace("{id}", "hold_1"), "POST") for path in ends)
    assert not app.handles("/v1/runs", "GET")
    assert not app.handles("/v1/runs/run_1", "GET")
    return {*app._routes, *(("POST", path) for path in ends)}
