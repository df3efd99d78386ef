"""Real servers for the tests: every test process has its own PostgreSQL and Valkeys in a home of its own.

Tests that commit are marked `real_db`: the database is migrated once a process and never flushed, so each
such test makes a tenant of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from noburn.runtime.names import ACROSS
from tests.simulator.report import pytest_terminal_summary as pytest_terminal_summary

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

pytest_plugins = ("tests.support.plugin",)

# A short path, for the sake of the unix sockets.
TEST_HOME = Path(f"/tmp/nbt-{os.getpid()}")


# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis_settings.register_profile("noburn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("noburn")


def _read_settings() -> None:
    """Reads the settings with this process's own home, whatever the shell has set.

    The variable that names them is taken away again: pytest-xdist's workers inherit the environment, and
    pytest-django would read the settings there before this file could name the worker's own home.
    """
    named = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_GATEWAY_URL", "BROKER_URL")
    redis = ("REDIS_URL", "REDIS_GATEWAY_URL", "REDIS_CONTROL_URL")
    secret = ("SECRET_KEY", "NOBURN_PEPPER", "NOBURN_SIGNING_KEYS", "NOBURN_SIGNING_KID", "BASE_URL", "PORT")
    older = ("NOBURN_PEPPER_PREVIOUS", "NOBURN_ID_KEY")
    alerts = ("NOBURN_ENCRYPTION_KEYS", "EMAIL_URL", "OPERATOR_EMAILS", "OPERATOR_WEBHOOK_URL")
    for name in (*named, *redis, *secret, *older, *alerts):
        os.environ.pop(name, None)
    os.environ["NOBURN_HOME"] = str(TEST_HOME)
    os.environ["NOBURN_DURABLE"] = "0"
    os.environ["DJANGO_SETTINGS_MODULE"] = "noburn.settings"
    from django.conf import settings

    if settings.NOBURN_HOME != TEST_HOME:
        pytest.exit(
            "Unset DJANGO_SETTINGS_MODULE: the settings were read before the tests could name a home."
        )
    del os.environ["DJANGO_SETTINGS_MODULE"]
    # A password costs a third of a second of CPU by intent, and tests set and try hundreds; none here is secret.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


_read_settings()

from noburn.kit.tenancy import span_in_this_process  # noqa: E402

# Tests look at everything; what they send as requests begins with nobody's rows, as anywhere.
span_in_this_process()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_db: commits for real; nothing is rolled back or flushed")


def pytest_unconfigure(config: pytest.Config) -> None:
    _clean_up()


@atexit.register
def _clean_up() -> None:
    """Stops the servers and removes the home; also when pytest itself breaks, so registered twice."""
    from noburn.runtime.usage import leave_servers

    leave_servers(wait=True)
    shutil.rmtree(TEST_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, str]]:
    """The embedded servers of this test process, running; their URLs by environment variable."""
    from noburn.runtime.usage import leave_servers, use_servers

    yield use_servers().environment()
    from django.db import connections

    connections.close_all()
    leave_servers(wait=True)


@pytest.fixture(scope="session")
def django_db_setup(servers: dict[str, str], django_db_blocker: DjangoDbBlocker) -> None:
    """Migrates the database once, as its owner; pytest-django's own would make a second one."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0, interactive=False)


@pytest.fixture(scope="session")
def real_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The migrated database, open to real transactions from here to the end of the session."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def _real_database_where_marked(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("real_db"):
        request.getfixturevalue("real_database")


@pytest.fixture(scope="session")
def redis_url(servers: dict[str, str]) -> str:
    """The Valkey of the counters, shared by this process's tests, as its administrator."""
    from tests.support.processes import administrators

    return administrators(servers["REDIS_URL"])


@pytest.fixture(scope="session")
def database_url(django_db_setup: None, servers: dict[str, str]) -> str:
    """The migrated database, as the application's role; it sees no tenant's rows until it names one."""
    return servers["DATABASE_URL"]


@pytest.fixture(scope="session")
def across_database_url(database_url: str) -> str:
    """The same, spanning tenants."""
    return f"{database_url}&options=-crole%3D{ACROSS}"


@pytest.fixture(scope="session")
def owner_database_url(django_db_setup: None, servers: dict[str, str]) -> str:
    """The migrated database, as the owner of its schema."""
    return servers["DATABASE_OWNER_URL"]


@pytest.fixture(scope="session")
def gateway_database_url(django_db_setup: None, servers: dict[str, str]) -> str:
    """The migrated database, as the gateway's role."""
    return servers["DATABASE_GATEWAY_URL"]
