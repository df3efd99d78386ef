"""Processes of this test's noburn: what they need to know of it."""

from __future__ import annotations

import os

from django.conf import settings

from noburn.runtime.secrets import Secrets


def environment(**more: str) -> dict[str, str]:
    """Returns what a process needs to be one of this test's noburn, and `more`."""
    secrets: Secrets = settings.SECRETS
    return {
        **os.environ,
        **secrets.environment(),
        "DJANGO_SETTINGS_MODULE": "noburn.settings",
        "NOBURN_HOME": str(settings.NOBURN_HOME),
        "DATABASE_URL": settings.DATABASE_URL,
        "DATABASE_OWNER_URL": settings.DATABASE_OWNER_URL,
        "DATABASE_GATEWAY_URL": settings.DATABASE_GATEWAY_URL,
        "REDIS_URL": settings.REDIS_URL,
        "REDIS_GATEWAY_URL": settings.REDIS_GATEWAY_URL,
        "REDIS_CONTROL_URL": settings.REDIS_CONTROL_URL,
        "BROKER_URL": settings.BROKER_URL,
        **more,
    }


def administrators(url: str) -> str:
    """The address of an embedded Redis as its administrator, who has no name."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
