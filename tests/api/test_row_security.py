"""The database keeps tenants apart: table by table, and behind an API whose queries forget whose rows they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from django.db.models import QuerySet

from noburn.kit import tenancy
from tests.api.test_isolation import Two, filled, routes, try_paths, two, variables

if TYPE_CHECKING:
    from tests.support.world import World

__all__ = ["two"]

pytestmark = pytest.mark.real_db

TABLES = """
SELECT c.relname, CASE c.relname WHEN 'tenants_tenant' THEN 'id' ELSE 'tenant_id' END
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
    AND a.attname = CASE c.relname WHEN 'tenants_tenant' THEN 'id' ELSE 'tenant_id' END
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1
"""

COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


def tables(world: World) -> list[tuple[str, str]]:
    """Each table of tenants' rows, and the column that says whose a row is."""
    found = world.sql(TABLES)
    assert len(found) > 80
    return [(name, key) for name, key in found]


def may(world: World, role: str, table: str, right: str) -> bool:
    return bool(world.sql("SELECT has_any_column_privilege(%s, %s, %s)", role, table, right)[0][0])


def counts(world: World, table: str, key: str, tenant: UUID) -> int:
    return int(world.sql(f"SELECT count(*) FROM {table} WHERE {key} = %s", tenant)[0][0])


@pytest.fixture
def app(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The application's role, in a transaction that comes to nothing."""
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


def for_tenant(app: psycopg.Connection[Any], tenant: UUID | str) -> None:
    app.execute("SELECT set_config('noburn.tenant', %s, true)", [str(tenant)])


class TestTables:
    def test_show_nothing_without_a_tenant(self, two: Two, app: psycopg.Connection[Any]) -> None:
        seen = [table for table, _ in tables(two.world) if may(two.world, "noburn_app", table, "SELECT")]
        assert len(seen) > 50
        for before in ("", two.alice.tenant_id, ""):
            # Once a transaction has named one, the setting reads as '' and no more as nothing.
            for_tenant(app, before)
            if not before:
                shown = {table: app.execute(f"SELECT count(*) FROM {table}").fetchone() for table in seen}
                assert {table: rows for table, rows in shown.items() if rows != (0,)} == {}
            app.rollback()

    def test_show_a_tenant_its_own_rows_and_all_of_them(self, two: Two, app: psycopg.Connection[Any]) -> None:
        for_tenant(app, two.alice.tenant_id)
        filled_tables = 0
        for table, key in tables(two.world):
            if not may(two.world, "noburn_app", table, "SELECT"):
                continue
            shown = app.execute(
                f"SELECT count(*), count(*) FILTER (WHERE {key} = %s) FROM {table}", [two.alice.tenant_id]
            ).fetchone()
            own = counts(two.world, table, key, two.alice.tenant_id)
            assert shown == (own, own), table
            filled_tables += bool(own and counts(two.world, table, key, two.charlie.tenant_id))
        assert filled_tables >= 30

    def test_take_no_row_of_another_s(self, two: Two, app: psycopg.Connection[Any]) -> None:
        tried = 0
        for table, key in tables(two.world):
            found = two.world.sql(
                f"SELECT to_jsonb(t) FROM {table} t WHERE {key} = %s LIMIT 1", two.charlie.tenant_id
            )
            if not found or not may(two.world, "noburn_app", table, "INSERT"):
                continue
            ((columns,),) = two.world.sql(COLUMNS, table)
            for_tenant(app, two.alice.tenant_id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                app.execute(
                    f"INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s)",
                    [json.dumps(found[0][0])],
                )
            app.rollback()
            tried += 1
        assert tried >= 25

    def test_give_no_row_to_another_and_change_none_of_another_s(
        self, two: Two, app: psycopg.Connection[Any]
    ) -> None:
        given = 0
        for table, key in tables(two.world):
            if not may(two.world, "noburn_app", table, "UPDATE"):
                continue
            for_tenant(app, two.alice.tenant_id)
            ((column,),) = two.world.sql(
                "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                " AND NOT attisdropped AND has_column_privilege('noburn_app', attrelid, attnum, 'UPDATE') LIMIT 1",
                table,
            )
            # Nothing names whose rows: all that are seen would be changed.
            changed = app.execute(
                f"UPDATE {table} SET {column} = {column} WHERE {key} = %s", [two.charlie.tenant_id]
            )
            assert changed.rowcount == 0, table
            if counts(two.world, table, key, two.alice.tenant_id) and two.world.sql(
                "SELECT has_column_privilege('noburn_app', %s, %s, 'UPDATE')", table, key
            ) == [(True,)]:
                with pytest.raises(psycopg.Error) as refused:
                    app.execute(f"UPDATE {table} SET {key} = %s", [two.charlie.tenant_id])
                given += "row-level security" in str(refused.value)
            app.rollback()
        assert given >= 20

    def test_show_all_to_what_spans_tenants(self, two: Two, app: psycopg.Connection[Any]) -> None:
        for table, key in tables(two.world):
            app.execute("SET LOCAL ROLE noburn_across")
            if may(two.world, "noburn_across", table, "SELECT"):
                for tenant in (two.alice.tenant_id, two.charlie.tenant_id):
                    shown = app.execute(f"SELECT count(*) FROM {table} WHERE {key} = %s", [tenant]).fetchone()
                    assert shown == (counts(two.world, table, key, tenant),), table
            app.rollback()
        assert app.execute("SELECT current_user").fetchone() == ("noburn_app",)

    def test_give_what_spans_tenants_the_application_s_rights_and_no_others(self, two: Two) -> None:
        rights = """SELECT c.relname, p.may, has_any_column_privilege('noburn_app', c.oid, p.may),
                has_any_column_privilege('noburn_across', c.oid, p.may)
            FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS p(may)
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
            UNION ALL SELECT c.relname, p.may, has_table_privilege('noburn_app', c.oid, p.may),
                has_table_privilege('noburn_across', c.oid, p.may)
            FROM pg_class c, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p(may)
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
            UNION ALL SELECT p.proname, 'EXECUTE', has_function_privilege('noburn_app', p.oid, 'EXECUTE'),
                has_function_privilege('noburn_across', p.oid, 'EXECUTE')
            FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"""
        found = two.world.sql(rights)
        assert len(found) > 500
        assert [row for row in found if row[2] != row[3]] == []

    def test_are_closed_to_the_gateway(self, two: Two) -> None:
        open_to = [
            (table, right)
            for table, _ in tables(two.world)
            for right in ("SELECT", "INSERT", "UPDATE")
            if may(two.world, "noburn_gateway", table, right)
        ]
        assert open_to == []


class TestReferences:
    def test_between_tenants_tables_carry_the_tenant(self, world: World) -> None:
        """Row-level security does not stop a foreign key: what it points at is looked up without it."""
        found = world.sql(
            """WITH own AS (SELECT attrelid, attnum FROM pg_attribute WHERE attname = 'tenant_id' AND NOT attisdropped),
            keys AS (SELECT f.*, l.attnum AS here, r.attnum AS there FROM pg_constraint f
                JOIN own l ON l.attrelid = f.conrelid JOIN own r ON r.attrelid = f.confrelid
                WHERE f.contype = 'f' AND f.conparentid = 0),
            judged AS (SELECT conrelid::regclass::text AS tab, conname, conkey, conrelid,
                    coalesce(array_position(conkey, here) = array_position(confkey, there), false) AS carries, here
                FROM keys)
            SELECT tab, conname, carries OR EXISTS (
                -- Django makes its own single-column key beside the composite one.
                SELECT FROM judged o WHERE o.conrelid = j.conrelid AND o.carries
                    AND o.conkey @> j.conkey AND cardinality(o.conkey) = cardinality(j.conkey) + 1)
            FROM judged j"""
        )
        assert len(found) > 30
        assert [row for row in found if not row[2]] == []


class Forgetful:
    """Queries that forget whose rows they are: every filter by tenant is dropped."""

    def __init__(self) -> None:
        self.forgot = 0
        self._own = QuerySet._filter_or_exclude_inplace  # type: ignore[attr-defined]

    def __call__(self, queryset: QuerySet[Any], negate: bool, args: Any, kwargs: dict[str, Any]) -> None:
        kept = {name: value for name, value in kwargs.items() if name not in ("tenant", "tenant_id")}
        self.forgot += len(kept) < len(kwargs)
        self._own(queryset, negate, args, kept)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Forgetful:
    made = Forgetful()
    monkeypatch.setattr(
        QuerySet,
        "_filter_or_exclude_inplace",
        lambda self, negate, args, kwargs: made(self, negate, args, kwargs),
    )
    return made


class TestQueriesThatForgetTheTenant:
    def test_answer_as_before(self, two: Two, forgetful: Forgetful) -> None:
        tried = try_paths(two)
        assert tried >= 35
        assert forgetful.forgot >= tried

    def test_list_nothing_of_another_s(self, two: Two, forgetful: Forgetful) -> None:
        for route in routes():
            if variables(route) or route.method != "GET":
                continue
            answer = two.api.get(route.path)
            assert answer.status == 200, (route.operation, answer)
            text = json.dumps(answer.body)
            assert two.charlies_word not in text, route.operation
            assert [thing for thing in two.its.values() if thing in text] == [], route.operation
        assert forgetful.forgot >= 10

    def test_would_show_it_but_for_the_database(
        self, two: Two, forgetful: Forgetful, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The same with a request that spans tenants: without this the two above would prove nothing."""
        assert forgetful.forgot == 0
        monkeypatch.setattr("tenants.api.base.act_for", lambda _tenant: tenancy._scope.set(tenancy.ACROSS))
        leaks = {
            route.path
            for route in routes()
            if route.method == "GET"
            and variables(route)
            and two.api.get(filled(route, two.its)).status == 200
        }
        leaks |= {
            route.path
            for route in routes()
            if route.method == "GET"
            and not variables(route)
            and two.charlies_word in json.dumps(two.api.get(route.path).body)
        }
        assert len(leaks) >= 20
