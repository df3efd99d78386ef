"""The places of the dashboard: their order, names and icons. A place whose page no app has is left out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from django.urls import NoReverseMatch, reverse

NAMESPACE: Final = "dashboard"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the navigation: its route's name, and the topic that a person must be allowed to read."""

    route: str
    label: str
    icon: str
    topic: str
    group: str = ""


PLACES: Final = (
    Place("start", "Get started", "flag", "tenant"),
    Place("overview", "Overview", "gauge", "usage"),
    Place("customers", "Customers", "people", "customers"),
    Place("budgets", "Budgets", "shield", "budgets"),
    Place("policies", "Policies", "signpost", "budgets"),
    Place("guards", "Guards", "siren", "guards"),
    Place("runs", "Runs", "steps", "runs"),
    Place("usage", "Usage", "bars", "usage"),
    Place("models", "Models", "layers", "prices"),
    Place("billing", "Billing", "receipt", "billing"),
    Place("alerts", "Alerts", "bell", "alerts"),
    Place("keys", "API keys", "key", "api_keys", "Tenant"),
    Place("team", "Team", "team", "members", "Tenant"),
    Place("audit", "Audit log", "clock", "audit", "Tenant"),
    Place("settings", "Settings", "sliders", "tenant", "Tenant"),
)
LANDING: Final = ("overview", "start", "settings")
"""Where a person lands at a tenant: the first of these that is there and that they may read."""


@dataclass(frozen=True, slots=True)
class Link:
    """A place as one page shows it."""

    place: Place
    url: str
    is_current: bool


def page_url(route: str, *, tenant: str, **kwargs: object) -> str:
    """Returns the address of a page of a tenant's. Raises NoReverseMatch when there is none."""
    return reverse(f"{NAMESPACE}:{route}", kwargs={"tenant": tenant, **kwargs})


def links(*, tenant: str, readable: Collection[str], current: str) -> list[Link]:
    """Returns the places that somebody may see at a tenant, named by its slug; `current` is a place's route."""
    found = []
    for place in PLACES:
        if place.topic not in readable:
            continue
        try:
            url = page_url(place.route, tenant=tenant)
        except NoReverseMatch:
            continue
        found.append(Link(place, url, place.route == current))
    return found


def landing_url(*, tenant: str, readable: Collection[str]) -> str:
    """Returns the address at which a person begins at a tenant. Raises LookupError when they may see nothing."""
    urls = {link.place.route: link.url for link in links(tenant=tenant, readable=readable, current="")}
    for route in LANDING:
        if route in urls:
            return urls[route]
    raise LookupError(tenant)
