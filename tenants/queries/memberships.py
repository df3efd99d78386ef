"""Where a person works."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from noburn.kit.tenancy import across_tenants
from tenants.models import Member

SHOWN_MAX: Final = 50
"""The most tenants that a person is shown to choose from."""


@across_tenants()
def memberships(*, user_id: UUID) -> list[Member]:
    """Returns a person's places with their tenants, by the tenants' names: the first 50."""
    places = Member.objects.select_related("tenant").filter(user_id=user_id)
    return list(places.order_by("tenant__name", "pk")[:SHOWN_MAX])
