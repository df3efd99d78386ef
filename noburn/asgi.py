"""The ASGI application that granian serves: the data plane beside Django, in one process."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noburn.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

from noburn.runtime.checks import require_sound_servers, user_faults
from noburn.runtime.dispatch import Application, Dispatcher
from noburn.runtime.usage import use_servers

log = logging.getLogger(__name__)

# Django must be set up before anything of ours that may reach a model is imported.
_web = cast(Application, get_asgi_application())

from budgets.gateway.app import GatewayApp  # noqa: E402
from budgets.gateway.config import GatewayConfig  # noqa: E402


async def _boot() -> None:
    """Starts the embedded servers where the environment names no others, and checks what they are."""
    await asyncio.to_thread(use_servers)
    await asyncio.to_thread(
        require_sound_servers,
        app_url=settings.DATABASE_URL,
        gateway_url=settings.DATABASE_GATEWAY_URL,
        redis_url=settings.REDIS_URL,
    )
    for fault in await asyncio.to_thread(
        user_faults,
        redis_url=settings.REDIS_URL,
        gateway_url=settings.REDIS_GATEWAY_URL,
        control_url=settings.REDIS_CONTROL_URL,
    ):
        log.warning("%s", fault)


application = Dispatcher(
    gateway=GatewayApp(
        GatewayConfig(
            database_url=settings.DATABASE_GATEWAY_URL,
            redis_url=settings.REDIS_GATEWAY_URL,
            pepper=settings.NOBURN_PEPPER,
            signing_keys=settings.NOBURN_SIGNING_KEYS,
            signing_kid=settings.NOBURN_SIGNING_KID,
            base_url=settings.BASE_URL,
            pepper_previous=settings.NOBURN_PEPPER_PREVIOUS,
            id_key=settings.NOBURN_ID_KEY,
            calls_per_second=settings.NOBURN_CALLS_PER_SECOND,
            key_calls_per_second=settings.NOBURN_KEY_CALLS_PER_SECOND,
            wrong_keys_per_minute=settings.NOBURN_WRONG_KEYS_PER_MINUTE,
            trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
        )
    ),
    web=_web,
    boot=_boot,
)
