"""A noburn's servers in a home of their own, for the time of a measurement."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def new_home() -> Iterator[str]:
    """A directory for the servers that goes with them."""
    with tempfile.TemporaryDirectory(prefix="nbb-", dir="/tmp") as made:
        yield made


def use_home(home: str, **more: str) -> None:
    """Has Django's settings, which nobody may have read yet, use the servers of this directory."""
    os.environ.update({"NOBURN_HOME": home, "DJANGO_SETTINGS_MODULE": "noburn.settings", **more})


@contextmanager
def migrated() -> Iterator[None]:
    """The servers, running and migrated, in a Django that is set up."""
    from django.core.management import call_command
    from django.db import connections

    from noburn.runtime.usage import leave_servers, use_servers

    use_servers()
    try:
        call_command("migrate", verbosity=0, interactive=False)
        yield
    finally:
        connections.close_all()
        leave_servers(wait=True)
