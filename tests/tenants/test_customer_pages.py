"""Customers by name, page by page, and found by a part of their id or name; what was done to one thing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from noburn.kit import ids
from tenants.queries.actors import actor_names
from tenants.queries.audit import history
from tenants.queries.customers import CustomerFilter, customer_of, customers, names_of
from tenants.services.customers import CustomerItem, resume_customer, save_customers, suspend_customer
from tests.tenants.cast import ACTOR, NOW, Cast

if TYPE_CHECKING:
    from uuid import UUID

pytestmark = pytest.mark.real_db


@pytest.fixture
def tenant_id(cast: Cast) -> UUID:
    items = [CustomerItem(external_id=f"c{number:02}", name="") for number in range(25)]
    items += [
        CustomerItem(external_id="acme-1", name="Acme Ltd"),
        CustomerItem(external_id="x%_", name="50%"),
    ]
    save_customers(tenant_id=cast.tenant.pk, items=items, actor=ACTOR, now=NOW)
    save_customers(
        tenant_id=cast.charlie.tenant.pk, items=[CustomerItem(external_id="acme-9")], actor=ACTOR, now=NOW
    )
    return cast.tenant.pk


def found(tenant_id: UUID, search: str = "", *, suspended: bool | None = None, after: str = "") -> list[str]:
    wanted = CustomerFilter(tenant_id=tenant_id, search=search, suspended=suspended)
    return [customer.external_id for customer in customers(wanted=wanted, after=after, limit=10)]


class TestCustomers:
    def test_come_page_by_page_without_a_gap(self, tenant_id: UUID) -> None:
        seen: list[str] = []
        while page := found(tenant_id, after=seen[-1] if seen else ""):
            seen += page
        assert seen == ["acme-1", *(f"c{number:02}" for number in range(25)), "x%_"]

    @pytest.mark.parametrize(
        ("search", "expected"),
        [
            ("acme", ["acme-1"]),
            ("LTD", ["acme-1"]),
            ("%", ["x%_"]),
            ("_", ["x%_"]),
            ("c2", ["c20", "c21", "c22", "c23", "c24"]),
            ("no", []),
        ],
    )
    def test_are_found_by_a_part_of_id_or_name(
        self, tenant_id: UUID, search: str, expected: list[str]
    ) -> None:
        assert found(tenant_id, search) == expected

    def test_are_told_apart_by_suspension(self, tenant_id: UUID) -> None:
        suspend_customer(tenant_id=tenant_id, external_id="c07", actor=ACTOR, now=NOW)
        assert found(tenant_id, suspended=True) == ["c07"]
        assert "c07" not in found(tenant_id, "c0", suspended=False)

    def test_are_the_tenants_own(self, cast: Cast, tenant_id: UUID) -> None:
        assert found(cast.charlie.tenant.pk) == ["acme-9"]
        assert customer_of(tenant_id=tenant_id, external_id="acme-9") is None
        assert names_of(tenant_id=tenant_id, external_ids=["acme-1", "c01", "acme-9"]) == {
            "acme-1": "Acme Ltd"
        }


class TestHistory:
    def test_shows_what_was_done_to_one_thing_newest_first(self, cast: Cast, tenant_id: UUID) -> None:
        customer = customer_of(tenant_id=tenant_id, external_id="c03")
        assert customer is not None
        for minutes, change in ((1, suspend_customer), (2, resume_customer)):
            change(tenant_id=tenant_id, external_id="c03", actor=ACTOR, now=NOW + timedelta(minutes=minutes))
        object_id = ids.encode(ids.CUSTOMER, customer.pk)
        entries = history(tenant_id=tenant_id, object=object_id, since=NOW, before=None, limit=10)
        assert [entry.action for entry in entries] == [
            "customer.resume",
            "customer.suspend",
            "customer.create",
        ]
        last = entries[1]
        rest = history(tenant_id=tenant_id, object=object_id, since=NOW, before=(last.at, last.pk), limit=10)
        assert [entry.action for entry in rest] == ["customer.create"]
        assert (
            history(tenant_id=cast.charlie.tenant.pk, object=object_id, since=NOW, before=None, limit=9) == []
        )

    def test_names_members_of_the_tenant_alone(self, cast: Cast) -> None:
        bob = f"user:{ids.encode(ids.MEMBER, cast.bob.pk)}"
        assert actor_names(tenant_id=cast.tenant.pk, actors=[bob, "noburn"]) == {bob: cast.bob.user.email}
        assert actor_names(tenant_id=cast.charlie.tenant.pk, actors=[bob]) == {}
