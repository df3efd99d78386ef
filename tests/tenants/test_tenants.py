from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from noburn.kit import ids
from tenants.models import ApiKey, AuditEntry, EndUser, Member, Project, Role, Tenant, User
from tenants.services import audit
from tenants.services.projects import InvalidProject, create_project
from tenants.services.signals import policy_changed
from tenants.services.tenants import InvalidTenant, TenantNotFound, create_tenant, lock_tenant
from tests.tenants.cast import ACTOR, NOW, Cast, make_tenant, unique

pytestmark = pytest.mark.real_db


class TestCreateTenant:
    def test_makes_owner_and_default_project(self) -> None:
        made = make_tenant("alice")
        assert Member.objects.get(tenant=made.tenant).role == Role.OWNER
        assert Project.objects.get(tenant=made.tenant).slug == "default"
        assert not made.user.has_usable_password()
        assert made.tenant.subject_limit == 1_000_000
        assert made.tenant.default_max_output_tokens == 4096
        assert made.tenant.unknown_model == "refuse"

    def test_makes_a_known_person_owner_of_a_second_tenant(self) -> None:
        first = make_tenant("alice")
        second = create_tenant(
            slug=unique("alice"), name="Second", email=first.user.email.upper(), actor=ACTOR, now=NOW
        )
        assert second.user == first.user

    def test_names_every_error_at_once(self) -> None:
        with pytest.raises(InvalidTenant) as refused:
            create_tenant(
                slug="No Slug", name=" ", email="nobody", time_zone="Mars/Olympus", actor=ACTOR, now=NOW
            )
        assert [error.field for error in refused.value.errors] == ["slug", "name", "email", "time_zone"]

    def test_refuses_a_slug_that_is_taken(self, cast: Cast) -> None:
        with pytest.raises(InvalidTenant, match="slug: is taken"):
            create_tenant(slug=cast.tenant.slug, name="A", email="a@example.com", actor=ACTOR, now=NOW)

    @pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "ä", "a" * 64, "a b", "a\n"])
    def test_refuses_what_is_no_slug(self, slug: str) -> None:
        with pytest.raises(InvalidTenant, match="slug"):
            create_tenant(slug=slug, name="A", email="a@example.com", actor=ACTOR, now=NOW)

    def test_records_who_did_it(self, cast: Cast) -> None:
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="tenant.create")
        assert entry.object == ids.encode("ten", cast.tenant.pk)
        assert entry.after is not None
        assert entry.after["owner"] == cast.alice.user.email
        assert entry.at == NOW


class TestCreateProject:
    def test_tells_the_policy_inside_its_transaction(self, cast: Cast) -> None:
        heard: list[tuple[Any, bool]] = []

        def hear(tenant_id: Any, **_: Any) -> None:
            heard.append((tenant_id, connection.in_atomic_block))

        policy_changed.connect(hear)
        try:
            create_project(tenant_id=cast.tenant.pk, slug="web", name="Web", actor=ACTOR, now=NOW)
        finally:
            policy_changed.disconnect(hear)
        assert heard == [(cast.tenant.pk, True)]

    def test_is_undone_when_the_policy_cannot_follow(self, cast: Cast) -> None:
        def fail(**_: Any) -> None:
            raise RuntimeError("cannot compile")

        policy_changed.connect(fail)
        try:
            with pytest.raises(RuntimeError, match="cannot compile"):
                create_project(tenant_id=cast.tenant.pk, slug="web", name="Web", actor=ACTOR, now=NOW)
        finally:
            policy_changed.disconnect(fail)
        assert not Project.objects.filter(tenant=cast.tenant, slug="web").exists()
        assert not AuditEntry.objects.filter(tenant=cast.tenant, action="project.create").exists()

    def test_refuses_a_slug_that_is_taken_here_but_not_elsewhere(self, cast: Cast) -> None:
        create_project(tenant_id=cast.tenant.pk, slug="web", name="Web", actor=ACTOR, now=NOW)
        create_project(tenant_id=cast.charlie.tenant.pk, slug="web", name="Web", actor=ACTOR, now=NOW)
        with pytest.raises(InvalidProject, match="slug: is taken"):
            create_project(tenant_id=cast.tenant.pk, slug="web", name="Web", actor=ACTOR, now=NOW)

    def test_refuses_an_unknown_tenant(self) -> None:
        with pytest.raises(TenantNotFound):
            create_project(tenant_id=ids.new_uuid(NOW), slug="web", name="Web", actor=ACTOR, now=NOW)


class TestLockTenant:
    def test_does_not_hold_up_rows_that_refer_to_the_tenant(
        self, cast: Cast, across_database_url: str
    ) -> None:
        with transaction.atomic():
            lock_tenant(tenant_id=cast.tenant.pk)
            with psycopg.connect(across_database_url) as other:
                other.execute("SET lock_timeout = '2s'")
                other.execute(
                    "INSERT INTO tenants_customer (id, tenant_id, external_id) VALUES (%s, %s, 'c1')",
                    [ids.new_uuid(NOW), cast.tenant.pk],
                )


class TestCompositeKeys:
    """The database itself refuses what belongs to another tenant."""

    def test_refuse_a_key_of_another_tenants_project(self, cast: Cast) -> None:
        with pytest.raises(IntegrityError, match="tenants_apikey_project_same_tenant"), transaction.atomic():
            ApiKey.objects.create(
                tenant=cast.tenant,
                project=cast.charlie.project,
                name="k",
                prefix="nb_live_aaaa",
                last4="aaaa",
                digest=ids.new_uuid(NOW).bytes * 2,
                scopes=["read"],
            )

    def test_refuse_a_user_of_another_tenants_customer(self, cast: Cast) -> None:
        from tenants.models import Customer

        theirs = Customer.objects.create(tenant=cast.charlie.tenant, external_id="c1")
        with (
            pytest.raises(IntegrityError, match="tenants_enduser_customer_same_tenant"),
            transaction.atomic(),
        ):
            EndUser.objects.create(tenant=cast.tenant, external_id="u1", customer=theirs)


class TestConstraints:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("slug", "Not A Slug"),
            ("unknown_model", "guess"),
            ("default_max_output_tokens", 0),
            ("subject_limit", -1),
        ],
    )
    def test_keep_tenants_within_their_ranges(self, cast: Cast, field: str, value: object) -> None:
        with pytest.raises(IntegrityError, match=f"tenants_tenant_{field}"), transaction.atomic():
            Tenant.objects.filter(pk=cast.tenant.pk).update(**{field: value})

    def test_keep_email_addresses_in_lower_case(self, cast: Cast) -> None:
        with pytest.raises(IntegrityError, match="lower_case"), transaction.atomic():
            User.objects.filter(pk=cast.bob.user_id).update(email="Bob@Example.com")

    def test_keep_one_membership_per_person(self, cast: Cast) -> None:
        with pytest.raises(IntegrityError, match="one_per_user"), transaction.atomic():
            Member.objects.create(tenant=cast.tenant, user=cast.bob.user, role=Role.ADMIN)


class TestUser:
    def test_is_found_by_its_address_in_any_case(self, cast: Cast) -> None:
        assert User.objects.get_by_natural_key(cast.bob.user.email.upper()) == cast.bob.user

    def test_needs_an_address(self) -> None:
        with pytest.raises(ValueError, match="email"):
            User.objects.create_user("")

    def test_may_be_an_operator(self) -> None:
        operator = User.objects.create_superuser(f"{unique('op')}@example.com", "a long password")
        assert operator.is_staff
        assert operator.has_perm("tenants.view_tenant")
        assert operator.check_password("a long password")


class TestAuditLog:
    @pytest.mark.parametrize(
        "statement", ["UPDATE tenants_auditentry SET actor = 'x'", "DELETE FROM tenants_auditentry"]
    )
    def test_lets_the_application_alter_nothing(self, cast: Cast, statement: str) -> None:
        with (
            pytest.raises(DatabaseError, match="permission denied"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    @pytest.mark.parametrize(
        "statement", ["UPDATE tenants_auditentry SET actor = 'x'", "DELETE FROM tenants_auditentry"]
    )
    def test_lets_even_its_owner_alter_nothing(
        self, cast: Cast, owner_database_url: str, statement: str
    ) -> None:
        with (
            psycopg.connect(owner_database_url) as owner,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
        ):
            owner.execute(statement)

    def test_is_written_inside_a_transaction_or_not_at_all(self, cast: Cast) -> None:
        with pytest.raises(audit.NotInTransaction):
            audit.record(tenant_id=cast.tenant.pk, actor=ACTOR, action="a.b", object="o", now=NOW)
