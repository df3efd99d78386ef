from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import psycopg
import pytest

from noburn.runtime.embedded import ROOT, EmbeddedServers
from noburn.runtime.home import Home
from noburn.runtime.servers import Postgres
from tests.runtime.conftest import wait_until_stopped

if TYPE_CHECKING:
    from tests.budgets.metering.elsewhere import Elsewhere

    Process = subprocess.Popen[str]


@pytest.fixture
def owner(owner_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the owner of the schema, each statement its own transaction."""
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def tenant(real_database: None) -> Callable[[str], UUID]:
    """Makes tenants."""
    # Django's applications are loaded after this file.
    from tenants.services.tenants import create_tenant

    def make(who: str) -> UUID:
        slug = f"{who}-{uuid4().hex[:10]}"
        made = create_tenant(
            slug=slug, name=who.title(), email=f"{slug}@example.com", actor="test", now=datetime.now(UTC)
        )
        return made.tenant.pk

    return make


@pytest.fixture
def process(servers: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Starts Python processes on this test process's servers; kills what is left of them."""
    begun: list[Process] = []

    def begin(*arguments: str) -> Process:
        from django.conf import settings

        environment = {
            **os.environ,
            "NOBURN_HOME": str(settings.NOBURN_HOME),
            "NOBURN_DURABLE": "0",
            "DJANGO_SETTINGS_MODULE": "noburn.settings",
        }
        begun.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        )
        return begun[-1]

    yield begin
    for one in begun:
        one.kill()
        one.communicate()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Another server."""
    # It reads Django's settings, which are named only after this file was loaded.
    from tests.budgets.metering.elsewhere import Elsewhere

    top = Path(tempfile.mkdtemp(prefix="nbe-", dir="/tmp"))
    home = Home.at(top)
    servers = EmbeddedServers(home, ("postgres",), durable=False)
    servers.ensure()
    yield Elsewhere(Postgres(home, durable=False))
    servers.leave(wait=True)
    wait_until_stopped(home, "postgres")
    shutil.rmtree(top)
