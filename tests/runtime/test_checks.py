"""Boot checks refuse what would cost money later, and say what to do."""

from __future__ import annotations

import re

import psycopg
import pytest
import redis
from psycopg.conninfo import make_conninfo

from noburn.runtime.checks import (
    Fault,
    redis_faults,
    require_sound_servers,
    role_faults,
    version_and_policy_faults,
)
from noburn.runtime.errors import RuntimeProblem


def ids(faults: list[Fault]) -> list[str]:
    return [fault.id for fault in faults]


@pytest.fixture
def administrator_url(owner_database_url: str) -> str:
    return make_conninfo(owner_database_url, user="postgres")


class TestRedis:
    def test_passes_as_it_is_embedded(self, redis_url: str) -> None:
        assert redis_faults(redis_url) == []

    def test_is_refused_with_an_eviction_policy(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.config_set("maxmemory-policy", "volatile-ttl")
            try:
                faults = redis_faults(redis_url)
            finally:
                client.config_set("maxmemory-policy", "noeviction")
        assert ids(faults) == ["noburn.E003"]
        assert "volatile-ttl" in faults[0].message
        assert "config set maxmemory-policy noeviction" in faults[0].hint

    @pytest.mark.parametrize(
        ("version", "refused"), [("6.2.14", True), ("7.0.0", False), ("8.2", False), ("", True)]
    )
    def test_is_refused_before_version_7(self, version: str, refused: bool) -> None:
        faults = version_and_policy_faults(version=version, policy="noeviction")
        assert ids(faults) == (["noburn.E002"] if refused else [])

    def test_that_does_not_answer_is_named_without_its_password(self) -> None:
        faults = redis_faults("redis://:secret@127.0.0.1:1/0")
        assert ids(faults) == ["noburn.E001"]
        assert faults[0].unreachable
        assert "127.0.0.1:1" in faults[0].message
        assert "secret" not in str(faults[0])


class TestRoles:
    def test_pass_as_they_are_embedded(self, database_url: str, gateway_database_url: str) -> None:
        assert role_faults("DATABASE_URL", database_url) == []
        assert role_faults("DATABASE_GATEWAY_URL", gateway_database_url) == []

    def test_refuse_a_superuser(self, administrator_url: str) -> None:
        faults = role_faults("DATABASE_URL", administrator_url)
        assert ids(faults) == ["noburn.E013"]
        assert "postgres, a superuser" in faults[0].message

    def test_refuse_the_owner_of_the_schema(self, owner_database_url: str) -> None:
        assert ids(role_faults("DATABASE_URL", owner_database_url)) == ["noburn.E015"]

    def test_refuse_a_role_that_passes_row_level_security(
        self, database_url: str, administrator_url: str
    ) -> None:
        with psycopg.connect(administrator_url, autocommit=True) as connection:
            connection.execute("ALTER ROLE noburn_app BYPASSRLS")
            try:
                faults = role_faults("DATABASE_URL", database_url)
            finally:
                connection.execute("ALTER ROLE noburn_app NOBYPASSRLS")
        assert ids(faults) == ["noburn.E014"]
        assert "ALTER ROLE noburn_app NOBYPASSRLS" in faults[0].hint

    def test_refuse_a_member_of_the_owner(self, database_url: str, administrator_url: str) -> None:
        with psycopg.connect(administrator_url, autocommit=True) as connection:
            connection.execute("GRANT noburn_owner TO noburn_app")
            try:
                faults = role_faults("DATABASE_URL", database_url)
            finally:
                connection.execute("REVOKE noburn_owner FROM noburn_app")
        assert ids(faults) == ["noburn.E015"]

    def test_that_cannot_connect_are_told_apart(self) -> None:
        faults = role_faults("DATABASE_URL", "postgresql://noburn_app@127.0.0.1:1/noburn")
        assert ids(faults) == ["noburn.E011"]
        assert faults[0].unreachable


class TestBoot:
    def test_names_every_fault_at_once(self, owner_database_url: str, administrator_url: str) -> None:
        with pytest.raises(RuntimeProblem) as raised:
            require_sound_servers(
                app_url=administrator_url,
                gateway_url=owner_database_url,
                redis_url="redis://127.0.0.1:1/0",
            )
        lines = str(raised.value).splitlines()
        assert [re.split(r" connects", line)[0] for line in lines] == ["DATABASE_URL", "DATABASE_GATEWAY_URL"]

    def test_waits_for_a_server_that_is_merely_down(
        self, database_url: str, gateway_database_url: str
    ) -> None:
        require_sound_servers(
            app_url=database_url, gateway_url=gateway_database_url, redis_url="redis://127.0.0.1:1/0"
        )
