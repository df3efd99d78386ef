"""Whose rows a statement sees, by what the code around it says: on connections, in transactions, requests and tasks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from typing import cast
from uuid import UUID

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.db.utils import ProgrammingError
from django.http import HttpRequest, HttpResponse

from noburn.kit.clock import utc_now
from noburn.kit.ids import new_uuid
from noburn.kit.tenancy import ACROSS, NOBODY, Scope, across_tenants, act_for, current, for_nobody, for_tenant
from noburn.runtime.checks import role_faults
from noburn.runtime.isolation import isolate
from noburn.runtime.requests import SPANNING, TenantScope

pytestmark = pytest.mark.real_db


@pytest.fixture(scope="module")
def two(real_database: None) -> tuple[UUID, UUID]:
    """Two tenants."""
    from tenants.services.tenants import create_tenant
    from tests.tenants.cast import unique

    made = []
    for _ in range(2):
        slug = unique("scoped")
        made.append(
            create_tenant(
                slug=slug, name=slug, email=f"{slug}@example.com", actor="test", now=utc_now()
            ).tenant.pk
        )
    return made[0], made[1]


def seen() -> set[UUID]:
    """Whose projects are seen, where nothing filters."""
    from tenants.models import Project

    return set(Project.objects.values_list("tenant_id", flat=True))


def said() -> tuple[str, str]:
    """The role and the tenant, as the server has them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, coalesce(current_setting('noburn.tenant', true), '')")
        row = cursor.fetchone()
        return str(row[0]), str(row[1])


class TestStatements:
    """Outside of a transaction, and within one."""

    @pytest.fixture(params=["alone", "in a transaction"], autouse=True)
    def _where(self, request: pytest.FixtureRequest) -> Iterator[None]:
        if request.param == "alone":
            yield
            return
        with transaction.atomic():
            yield

    def test_see_nobody_s_rows_unless_it_is_said_whose(self, two: tuple[UUID, UUID]) -> None:
        with for_nobody():
            assert seen() == set()

    def test_see_one_tenant_s_rows_and_then_another_s(self, two: tuple[UUID, UUID]) -> None:
        for tenant in (*two, two[0]):
            with for_tenant(tenant):
                assert seen() == {tenant}
                with for_nobody():
                    assert seen() == set()
                assert seen() == {tenant}
                with across_tenants():
                    assert seen() >= set(two)
                assert seen() == {tenant}

    def test_write_nobody_else_s(self, two: tuple[UUID, UUID]) -> None:
        from tenants.models import Project

        with for_tenant(two[0]):
            assert not Project.objects.filter(tenant_id=two[1]).update(name="mine")
            with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                Project.objects.create(tenant_id=two[1], slug="mine", name="mine")
            assert seen() == {two[0]}

    def test_forget_what_a_part_that_was_undone_had_set(self, two: tuple[UUID, UUID]) -> None:
        with for_tenant(two[0]), transaction.atomic():
            assert seen() == {two[0]}
            undone = transaction.savepoint()
            with across_tenants():
                assert seen() >= set(two)
            transaction.savepoint_rollback(undone)
            assert seen() == {two[0]}


class TestConnections:
    def test_carry_nothing_from_one_transaction_into_the_next(self, two: tuple[UUID, UUID]) -> None:
        for scope in (across_tenants(), for_tenant(two[0])):
            with scope, transaction.atomic():
                assert seen()
            with for_nobody():
                assert said() == ("noburn_app", "")

    def test_say_their_scope_without_a_round_trip_more(self, two: tuple[UUID, UUID]) -> None:
        with across_tenants():
            assert said() == ("noburn_across", "")
        with for_tenant(two[1]):
            assert said() == ("noburn_app", str(two[1]))

    def test_check_a_transaction_s_end_in_its_own_scope(
        self, two: tuple[UUID, UUID], owner_database_url: str
    ) -> None:
        """What is deferred to the end sees as much as the transaction, and not what its last block did."""
        with psycopg.connect(owner_database_url, autocommit=True) as owner:
            owner.execute(
                """CREATE TABLE probed (n integer); CREATE TABLE probes (tenant text);
                CREATE FUNCTION probe() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    INSERT INTO probes VALUES (current_setting('noburn.tenant', true)); RETURN NULL;
                END $$;
                CREATE CONSTRAINT TRIGGER probe AFTER INSERT ON probed DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION probe()"""
            )
            try:
                with for_tenant(two[1]), transaction.atomic():
                    with connection.cursor() as cursor:
                        cursor.execute("INSERT INTO probed VALUES (1)")
                    with for_tenant(two[0]):
                        assert seen() == {two[0]}
                assert owner.execute("SELECT tenant FROM probes").fetchall() == [(str(two[1]),)]
            finally:
                owner.execute("DROP TABLE probed, probes; DROP FUNCTION probe()")

    def test_declare_no_cursor_and_send_no_many_without_a_scope(self, two: tuple[UUID, UUID]) -> None:
        from tenants.models import Project

        with for_tenant(two[0]):
            assert {row.tenant_id for row in Project.objects.iterator(chunk_size=1)} == {two[0]}
            with connection.cursor() as cursor:
                with pytest.raises(NotImplementedError, match="transaction"):
                    cursor.executemany("SELECT %s", [[1], [2]])
                with transaction.atomic():
                    # Anything else than this tenant would be no number to divide by.
                    one = "SELECT 1 / (current_setting('noburn.tenant') = %s)::int"
                    cursor.executemany(one, [[str(two[0])], [str(two[0])]])
                with pytest.raises(NotImplementedError):
                    cursor.copy("COPY tenants_project TO STDOUT")

    def test_say_it_again_behind_a_statement_that_never_left(self, two: tuple[UUID, UUID]) -> None:
        with across_tenants(), transaction.atomic():
            assert seen() >= set(two)
            with for_tenant(two[0]), connection.cursor() as cursor:
                with pytest.raises(ProgrammingError, match="placeholder"):
                    cursor.execute("SELECT %s", [1, 2])
                assert seen() == {two[0]}

    def test_of_another_thread_see_nothing_of_ours(self, two: tuple[UUID, UUID]) -> None:
        found: list[object] = []

        def look() -> None:
            found.append(current())
            connection.close()

        with for_tenant(two[0]):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        # What this whole process is, which tests declare; a web process is nobody.
        assert found == [ACROSS]


class TestRequests:
    def test_begin_with_nobody_or_with_all(self) -> None:
        for path, expected in [
            ("/v1/budgets", NOBODY),
            ("/t/acme/", NOBODY),
            ("/", NOBODY),
            ("/admin/", ACROSS),
        ]:
            request = HttpRequest()
            request.path_info = path
            scopes: list[object] = []

            def view(_: HttpRequest, scopes: list[object] = scopes) -> HttpResponse:
                scopes.append(current())
                return HttpResponse()

            TenantScope(view)(request)
            assert scopes == [expected], path

    def test_leave_nothing_behind(self, two: tuple[UUID, UUID]) -> None:
        def view(_: HttpRequest) -> HttpResponse:
            act_for(two[0])
            assert seen() == {two[0]}
            return HttpResponse()

        request = HttpRequest()
        request.path_info = "/v1/projects"
        TenantScope(view)(request)
        assert current() == ACROSS

    def test_are_held_to_it_where_they_are_served_asynchronously(self, two: tuple[UUID, UUID]) -> None:
        found: list[object] = []

        def act() -> None:
            found.append(current())
            act_for(two[0])

        async def view(_: HttpRequest) -> HttpResponse:
            await sync_to_async(act)()
            found.append(await sync_to_async(current)())
            return HttpResponse()

        async def serve() -> object:
            request = HttpRequest()
            request.path_info = "/v1/projects"
            await cast(Awaitable[object], TenantScope(view)(request))
            return current()

        assert asyncio.run(serve()) == ACROSS
        assert found == [NOBODY, Scope(tenant=two[0])]

    def test_alone_act_for_somebody(self, two: tuple[UUID, UUID]) -> None:
        with pytest.raises(RuntimeError, match="for_tenant"):
            act_for(two[0])

    def test_of_no_tenant_page_or_api_span_tenants(self) -> None:
        assert [
            path
            for path in SPANNING
            if path.startswith(("/t", "/v1", "/api", "/embed")) and path != "/tenants"
        ] == []


class TestTasks:
    def test_span_tenants_in_whatever_thread(self) -> None:
        from noburn.celery import app

        task = app.task(name="tests.scope")(current)
        with for_nobody():
            assert task() == ACROSS


class TestBoot:
    def test_refuses_a_table_of_tenants_without_policies_and_migrate_makes_them(
        self, database_url: str, owner_database_url: str
    ) -> None:
        assert role_faults("DATABASE_URL", database_url) == []
        with psycopg.connect(owner_database_url, autocommit=True) as owner:
            owner.execute("CREATE TABLE forgotten (id uuid PRIMARY KEY, tenant_id uuid NOT NULL)")
            try:
                (fault,) = role_faults("DATABASE_URL", database_url)
                assert (fault.id, fault.unreachable) == ("noburn.E018", False)
                assert "forgotten has no FORCE ROW LEVEL SECURITY" in fault.message
                with owner.cursor() as cursor:
                    assert isolate(cursor) == 1
                    assert isolate(cursor) == 0
                assert role_faults("DATABASE_URL", database_url) == []
            finally:
                owner.execute("DROP TABLE forgotten")

    @pytest.mark.parametrize(
        ("altered", "said"),
        [
            ("ALTER TABLE tenants_project NO FORCE ROW LEVEL SECURITY", "no FORCE"),
            ("ALTER TABLE tenants_project DISABLE ROW LEVEL SECURITY", "no FORCE"),
            ("DROP POLICY nb_tenant ON tenants_project", "no policy"),
            ("ALTER POLICY nb_tenant ON tenants_project USING (true)", "no policy"),
            ("ALTER POLICY nb_tenant ON tenants_project WITH CHECK (true)", "no policy"),
            ("CREATE POLICY more ON tenants_project FOR SELECT USING (true)", "another policy"),
            ("CREATE POLICY more ON tenants_project TO noburn_app USING (true)", "another policy"),
            ("CREATE VIEW tenants_seen AS SELECT * FROM tenants_project", "is a view"),
        ],
    )
    def test_refuses_what_somebody_altered(
        self,
        database_url: str,
        owner_database_url: str,
        altered: str,
        said: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from noburn.runtime.isolation import UNISOLATED

        with psycopg.connect(owner_database_url) as owner:
            assert owner.execute(UNISOLATED).fetchall() == []
            owner.execute(altered.encode())
            (found,) = owner.execute(UNISOLATED).fetchall()
            owner.rollback()
        assert said in found[2]

    def test_refuses_who_spans_tenants_without_saying_so(
        self, database_url: str, gateway_database_url: str, owner_database_url: str
    ) -> None:
        administrator = psycopg.conninfo.make_conninfo(owner_database_url, user="postgres")
        with psycopg.connect(administrator, autocommit=True) as connection:
            connection.execute("GRANT noburn_across TO noburn_gateway")
            try:
                (fault,) = role_faults("DATABASE_GATEWAY_URL", gateway_database_url)
            finally:
                connection.execute("REVOKE noburn_across FROM noburn_gateway")
            assert fault.id == "noburn.E017"
            connection.execute("GRANT noburn_across TO noburn_app WITH INHERIT TRUE")
            try:
                (fault,) = role_faults("DATABASE_URL", database_url)
            finally:
                connection.execute("GRANT noburn_across TO noburn_app WITH INHERIT FALSE")
            assert fault.id == "noburn.E017"
            connection.execute("REVOKE noburn_across FROM noburn_app")
            try:
                (fault,) = role_faults("DATABASE_URL", database_url)
            finally:
                connection.execute("GRANT noburn_across TO noburn_app")
            assert fault.id == "noburn.E016"
        assert role_faults("DATABASE_URL", database_url) == []

    def test_partitions_made_later_are_kept_apart_as_well(self, owner_database_url: str) -> None:
        from noburn.runtime.isolation import UNISOLATED

        with psycopg.connect(owner_database_url) as owner:
            owner.execute("SELECT nb_make_partitions((current_date + 900)::date, 2)")
            owner.execute("SELECT nb_make_decision_partitions((current_date + 900)::date, 2)")
            made = owner.execute(
                "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relispartition AND relkind = 'r'"
            ).fetchall()
            assert len(made) > 20
            assert owner.execute(UNISOLATED).fetchall() == []
            owner.rollback()


class TestIds:
    def test_of_tenants_need_no_quotes(self) -> None:
        """They are written into SET LOCAL, which takes no parameters."""
        assert str(new_uuid(utc_now())).replace("-", "").isalnum()
