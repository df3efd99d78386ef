"""One process's use of the servers that its settings name: external ones, or embedded ones kept running."""

from __future__ import annotations

import os

from noburn.runtime.embedded import EmbeddedServers, missing_servers
from noburn.runtime.home import Home

_used: EmbeddedServers | None = None


def use_servers() -> EmbeddedServers:
    """Starts the embedded servers that are needed and keeps them until this process ends or leaves.

    Repeated calls start again what died meanwhile. Raises RuntimeProblem when a server does not come up.
    """
    global _used
    if _used is None:
        from django.conf import settings

        home = Home.at(settings.NOBURN_HOME)
        _used = EmbeddedServers(home, missing_servers(dict(os.environ)), durable=settings.NOBURN_DURABLE)
    _used.ensure()
    return _used


def leave_servers(*, wait: bool = False) -> None:
    """Stops using the embedded servers; `wait` waits for them to stop when nobody else uses them."""
    global _used
    if _used is not None:
        _used.leave(wait=wait)
        _used = None
