"""Who may read and change what in the management API: members by role, API keys by scope."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Topic(StrEnum):
    """What a route of the management API is about."""

    TENANT = "tenant"
    PROJECTS = "projects"
    CUSTOMERS = "customers"
    BUDGETS = "budgets"
    API_KEYS = "api_keys"
    MEMBERS = "members"
    USAGE = "usage"
    PRICES = "prices"
    RERATINGS = "reratings"
    RUNS = "runs"
    GUARDS = "guards"
    ALERTS = "alerts"
    BILLING = "billing"
    AUDIT = "audit"


_ALL: Final = frozenset(Topic)

WRITABLE: Final[Mapping[str, frozenset[Topic]]] = MappingProxyType(
    {
        "owner": _ALL,
        "admin": _ALL,
        "billing": frozenset({Topic.PRICES, Topic.BILLING}),
        "viewer": frozenset(),
    }
)
"""By role. Only owners make and unmake owners: a rule of members' service, since it looks at the member."""

READABLE: Final[Mapping[str, frozenset[Topic]]] = MappingProxyType(
    {"owner": _ALL, "admin": _ALL, "billing": _ALL, "viewer": _ALL - {Topic.AUDIT}}
)
"""By role. What viewers see is what they need to understand spending; who did what is for those who decide."""

OF_ONE_PROJECT: Final = frozenset({Topic.USAGE})
"""What a key that belongs to one project may read: its own use. Everything else concerns the whole tenant."""
