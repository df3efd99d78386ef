"""The test fixtures themselves: every role reaches the migrated database, and as itself."""

from __future__ import annotations

import psycopg
import pytest
import redis


class TestServers:
    def test_give_each_role_its_own_connection(
        self, database_url: str, owner_database_url: str, gateway_database_url: str
    ) -> None:
        names = []
        for url in (database_url, owner_database_url, gateway_database_url):
            with psycopg.connect(url) as connection:
                names.append(connection.execute("SELECT current_user").fetchone())
        assert names == [("noburn_app",), ("noburn_owner",), ("noburn_gateway",)]

    def test_answer_on_the_counters_url(self, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            assert client.ping()

    @pytest.mark.real_db
    def test_open_the_database_to_tests_that_commit(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            # What tests look at spans tenants; they come as the application all the same.
            cursor.execute("SELECT session_user, current_user")
            assert cursor.fetchone() == ("noburn_app", "noburn_across")
