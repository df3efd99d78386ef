from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from noburn.kit.tenancy import across_tenants, for_nobody, for_tenant
from tenants.models import AuditEntry, Customer, Tenant
from tenants.queries.customers import CustomerFilter, customers, named_like
from tenants.services.customers import (
    CustomerItem,
    CustomerNotFound,
    InvalidCustomer,
    ensure_customer,
    resume_customer,
    save_customers,
    suspend_customer,
)
from tests.tenants.cast import ACTOR, NOW, Cast

pytestmark = pytest.mark.real_db


def ensure(cast: Cast, external_id: str) -> tuple[Customer, bool]:
    return ensure_customer(tenant_id=cast.tenant.pk, external_id=external_id, actor=ACTOR, now=NOW)


class TestEnsureCustomer:
    def test_makes_a_customer_once(self, cast: Cast) -> None:
        first, made = ensure(cast, "acme")
        again, made_again = ensure(cast, "acme")
        assert (made, made_again) == (True, False)
        assert again == first
        assert AuditEntry.objects.filter(tenant=cast.tenant, action="customer.create").count() == 1

    def test_keeps_tenants_apart(self, cast: Cast) -> None:
        ours, _ = ensure(cast, "acme")
        theirs, made = ensure_customer(
            tenant_id=cast.charlie.tenant.pk, external_id="acme", actor=ACTOR, now=NOW
        )
        assert made
        assert theirs.pk != ours.pk

    @pytest.mark.parametrize("external_id", ["", "x" * 201, "*", " a", "a\x00b", "a\nb"])
    def test_refuses_an_id_that_cannot_be_used(self, cast: Cast, external_id: str) -> None:
        with pytest.raises(InvalidCustomer, match="external_id"):
            ensure(cast, external_id)

    def test_accepts_ids_in_any_script_up_to_200_characters(self, cast: Cast) -> None:
        assert ensure(cast, "顧客" * 100)[1]

    def test_stops_at_the_tenants_limit_and_leaves_no_trace(self, cast: Cast) -> None:
        Tenant.objects.filter(pk=cast.tenant.pk).update(subject_limit=1)
        ensure(cast, "first")
        with pytest.raises(InvalidCustomer, match="customers and users exist"):
            ensure(cast, "second")
        assert ensure(cast, "first")[1] is False
        assert Customer.objects.filter(tenant=cast.tenant).count() == 1


class TestSuspendCustomer:
    def test_suspends_until_resumed(self, cast: Cast) -> None:
        ensure(cast, "acme")
        who: dict[str, Any] = {"tenant_id": cast.tenant.pk, "external_id": "acme", "actor": ACTOR}
        assert suspend_customer(**who, now=NOW).suspended_at == NOW
        assert suspend_customer(**who, now=NOW + timedelta(days=1)).suspended_at == NOW
        assert resume_customer(**who, now=NOW).suspended_at is None
        actions = AuditEntry.objects.filter(tenant=cast.tenant, action__startswith="customer.").order_by("pk")
        assert {entry.action for entry in actions} == {
            "customer.create",
            "customer.suspend",
            "customer.resume",
        }
        assert actions.count() == 3

    def test_does_not_find_another_tenants_customer(self, cast: Cast) -> None:
        ensure(cast, "acme")
        with pytest.raises(CustomerNotFound):
            suspend_customer(
                tenant_id=cast.charlie.tenant.pk, external_id="acme", actor="user:charlie", now=NOW
            )


class TestSearch:
    def test_finds_any_part_of_ids_and_names_by_its_index(self, cast: Cast) -> None:
        save_customers(
            tenant_id=cast.tenant.pk,
            items=[CustomerItem(external_id="cus-000123", name="Müller & Söhne")],
            actor=ACTOR,
            now=NOW,
        )
        for search, found in (("000123", True), ("üLLER", True), ("& s", True), ("%", False), ("_0", False)):
            wanted = CustomerFilter(tenant_id=cast.tenant.pk, search=search)
            names = [row.external_id for row in customers(wanted=wanted, after="", limit=10)]
            assert ("cus-000123" in names) is found, search
        with transaction.atomic(), connection.cursor() as cursor:
            # A table as small as this would be read whole.
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
            cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = 'nb_customers_like'")
            body = cursor.fetchone()[0]
            condition = body.partition("AND (")[2].partition(")\n")[0].replace("p_like", "'%000123%'")
            cursor.execute(
                "EXPLAIN SELECT id FROM tenants_customer WHERE " + condition.replace("%", "%%"), []
            )
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert plan.count("tenants_customer_search") == 2
        with for_tenant(cast.tenant.pk):
            assert Customer.objects.filter(named_like(cast.tenant.pk, "000123")).count() == 1

    def test_finds_no_other_tenant_s_whatever_is_asked(self, cast: Cast) -> None:
        ensure(cast, "acme")
        named = "SELECT count(*) FROM nb_customers_like(%s, '%%acme%%')"
        for scope, found in (
            (for_tenant(cast.tenant.pk), 1),
            (across_tenants(), 1),
            (for_tenant(cast.charlie.tenant.pk), 0),
            (for_nobody(), 0),
        ):
            with scope, connection.cursor() as cursor:
                cursor.execute(named, [cast.tenant.pk])
                assert cursor.fetchone() == (found,)
