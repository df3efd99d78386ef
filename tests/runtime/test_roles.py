"""The three database roles: what each may do by default, and how they are made on another server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import call_command
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from noburn.runtime.roles import create_roles


@pytest.fixture
def table(owner_database_url: str) -> Iterator[str]:
    """A table and a function that the owner made, as a migration would."""
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE made_by_owner (n bigserial PRIMARY KEY, word text)")
        connection.execute("CREATE FUNCTION say() RETURNS text LANGUAGE sql AS $$ SELECT 'said' $$")
        yield "made_by_owner"
        connection.execute("DROP TABLE made_by_owner; DROP FUNCTION say()")


class TestApplicationRole:
    def test_reads_and_writes_what_the_owner_makes(self, table: str, database_url: str) -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute("INSERT INTO made_by_owner (word) VALUES ('a')")
            connection.execute("UPDATE made_by_owner SET word = 'b'")
            assert connection.execute("SELECT word, say() FROM made_by_owner").fetchall() == [("b", "said")]
            connection.execute("DELETE FROM made_by_owner")

    @pytest.mark.parametrize(
        "statement",
        ["CREATE TABLE mine (n int)", "ALTER TABLE made_by_owner ADD COLUMN m int", "TRUNCATE made_by_owner"],
    )
    def test_cannot_change_the_schema(self, table: str, database_url: str, statement: str) -> None:
        with psycopg.connect(database_url) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


class TestGatewayRole:
    @pytest.mark.parametrize(
        "statement",
        ["SELECT * FROM made_by_owner", "SELECT say()", "INSERT INTO made_by_owner (word) VALUES ('a')"],
    )
    def test_starts_with_nothing(self, table: str, gateway_database_url: str, statement: str) -> None:
        with psycopg.connect(gateway_database_url) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


class TestOwnerRole:
    def test_does_not_wait_long_for_a_lock(self, django_db_setup: None) -> None:
        from django.conf import settings

        assert "lock_timeout=5000" in settings.DATABASES["owner"]["OPTIONS"]["options"]


class TestDatabaseRolesCommand:
    def test_prints_urls_of_three_roles_and_can_be_repeated(
        self, owner_database_url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        admin_url = make_conninfo(owner_database_url, user="postgres", dbname="postgres")
        for _ in range(2):
            call_command("database", "roles", "--admin-url", admin_url, "--name", "elsewhere", "--json")
            urls = json.loads(capsys.readouterr().out)
            for variable, role in (
                ("DATABASE_URL", "noburn_app"),
                ("DATABASE_OWNER_URL", "noburn_owner"),
                ("DATABASE_GATEWAY_URL", "noburn_gateway"),
            ):
                assert conninfo_to_dict(urls[variable])["password"]
                with psycopg.connect(urls[variable]) as connection:
                    found = connection.execute("SELECT current_user, current_database()").fetchone()
                    assert found == (role, "elsewhere")

    def test_refuses_a_name_that_is_no_plain_name(self, owner_database_url: str) -> None:
        with pytest.raises(ValueError, match="not a plain lower-case name"):
            create_roles(owner_database_url, database='x"; DROP DATABASE noburn; --')
