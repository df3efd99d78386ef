"""Every page of a tenant's, from Django's resolver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from noburn.dashboard.navigation import NAMESPACE, page_url
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.dashboard.page import TenantPage

# What else may stand in a path: a name of the tenant's own, by the variable's name.
WORDS: dict[str, str] = {"plan": "team"}


@dataclass(frozen=True)
class PageRoute:
    """One page: its route's name, its view, and the variables of its path beside the tenant."""

    name: str
    view: type[TenantPage]
    variables: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        """What it answers to."""
        return ["GET", *(["POST"] if hasattr(self.view, "post") else [])]

    def url(self, tenant: str) -> str:
        """Its address at a tenant, with ids that are nobody's."""
        made: dict[str, Any] = {
            name: WORDS.get(name) or ids.encode(name.removesuffix("_id"), ids.new_uuid(utc_now()))
            for name in self.variables
        }
        return page_url(self.name, tenant=tenant, **made)


def page_routes() -> list[PageRoute]:
    """Every page below /t/. Raises AssertionError for a view that does not stand on TenantPage."""
    resolver = next(
        each for each in get_resolver().url_patterns if getattr(each, "namespace", None) == NAMESPACE
    )
    assert isinstance(resolver, URLResolver)
    return sorted(_walk(resolver.url_patterns), key=lambda route: route.name)


def _walk(patterns: list[URLPattern | URLResolver]) -> Iterator[PageRoute]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns)
            continue
        view = getattr(pattern.callback, "view_class", None)
        assert view is not None, f"{pattern.name} is no class"
        assert issubclass(view, TenantPage), f"{pattern.name} does not stand on TenantPage"
        yield PageRoute(str(pattern.name), view, tuple(sorted(pattern.pattern.converters)))
