from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings

from budgets.models import PolicySnapshot
from noburn.kit import ids
from tenants.models import AuditEntry, Customer, Tenant
from tests.support.api import Api
from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db


def version(cast: Cast) -> int:
    return PolicySnapshot.objects.get(pk=cast.tenant.pk).version


class TestCustomers:
    def test_creates_changes_and_suspends(self, api: Api, cast: Cast) -> None:
        made = api.post("/v1/customers", {"external_id": "acme", "name": "Acme"})
        assert (made.status, made["suspended_at"]) == (201, None)
        path, before = f"/v1/customers/{made['id']}", version(cast)
        assert api.patch(path, {"name": ""})["name"] == ""
        assert version(cast) == before
        assert api.patch(path, {"suspended": True})["suspended_at"] is not None
        assert version(cast) == before + 1
        assert [c["external_id"] for c in api.all("/v1/customers", suspended="true")] == ["acme"]
        assert api.patch(path, {"suspended": False})["suspended_at"] is None
        told = AuditEntry.objects.filter(tenant=cast.tenant, object=made["id"]).order_by("pk")
        assert [(e.action, (e.before or {}).get("name")) for e in told] == [
            ("customer.create", None),
            ("customer.edit", "Acme"),
            ("customer.edit", ""),
            ("customer.edit", ""),
        ]

    def test_refuses_a_taken_id_and_odd_ones(self, api: Api) -> None:
        assert api.post("/v1/customers", {"external_id": "acme"}).status == 201
        assert api.post("/v1/customers", {"external_id": "acme"}).fields == {
            "external_id": "is taken by another customer"
        }
        for odd in ("", "*", " x", "a\nb", "\ud800", "a\x00b"):
            assert set(api.post("/v1/customers", {"external_id": odd}).fields) == {"external_id"}, repr(odd)

    def test_finds_by_part_of_id_or_name(self, api: Api) -> None:
        for external_id, name in (("acme-1", "Anvils"), ("globex", "Acme's rival"), ("zorg", "")):
            api.post("/v1/customers", {"external_id": external_id, "name": name})
        assert {c["external_id"] for c in api.all("/v1/customers", search="ACME")} == {"acme-1", "globex"}
        assert [c["external_id"] for c in api.all("/v1/customers", external_id="zorg")] == ["zorg"]

    @pytest.mark.parametrize(
        "query",
        [{"suspended": "yes"}, {"suspended": "1"}, {"suspended": ""}, {"search": ""}, {"external_id": " "}],
    )
    def test_takes_no_filter_that_filters_nothing(self, api: Api, query: dict[str, Any]) -> None:
        refused = api.get("/v1/customers", **query)
        assert (refused.status, set(refused.fields)) == (400, set(query))


class TestSaveCustomers:
    def test_makes_and_changes_many_at_once(self, api: Api, cast: Cast) -> None:
        api.post("/v1/customers/bulk", {"items": [{"external_id": "a"}, {"external_id": "b", "name": "B"}]})
        before = version(cast)
        saved = api.post(
            "/v1/customers/bulk",
            {
                "items": [
                    {"external_id": "a"},
                    {"external_id": "b", "suspended": True},
                    {"external_id": "c", "suspended": True},
                ]
            },
        )
        assert [i["outcome"] for i in saved["items"]] == ["unchanged", "updated", "created"]
        assert saved["items"][1]["customer"]["name"] == "B"
        assert version(cast) == before + 1
        assert len(AuditEntry.objects.filter(tenant=cast.tenant, action__startswith="customer.")) == 4

    def test_takes_a_thousand(self, api: Api, cast: Cast) -> None:
        items = [{"external_id": f"c{n}"} for n in range(1_000)]
        assert api.post("/v1/customers/bulk", {"items": items}).status == 200
        assert Customer.objects.filter(tenant=cast.tenant).count() == 1_000
        assert len(api.all("/v1/customers", limit=200)) == 1_000
        items.append({"external_id": "one too many"})
        assert set(api.post("/v1/customers/bulk", {"items": items}).fields) == {"items"}

    def test_does_nothing_when_one_item_is_wrong(self, api: Api, cast: Cast) -> None:
        refused = api.post(
            "/v1/customers/bulk",
            {
                "items": [
                    {"external_id": "a"},
                    {"external_id": "a"},
                    {"external_id": "*"},
                    {"external_id": "d", "name": "x\ny"},
                ]
            },
        )
        assert set(refused.fields) == {"items[1].external_id", "items[2].external_id", "items[3].name"}
        assert not Customer.objects.filter(tenant=cast.tenant).exists()
        typed = api.post("/v1/customers/bulk", {"items": [{"external_id": "a"}, {"extern": 1}]})
        assert set(typed.fields) == {"items[1].external_id", "items[1].extern"}

    def test_keeps_to_the_tenants_limit(self, api: Api, cast: Cast) -> None:
        Tenant.objects.filter(pk=cast.tenant.pk).update(subject_limit=2)
        items = [{"external_id": f"c{n}"} for n in range(3)]
        assert set(api.post("/v1/customers/bulk", {"items": items}).fields) == {"items"}
        assert api.post("/v1/customers/bulk", {"items": items[:2]}).status == 200

    def test_leaves_another_tenants_customers_alone(self, api: Api, cast: Cast) -> None:
        theirs = Customer.objects.create(tenant=cast.charlie.tenant, external_id="acme", name="Theirs")
        saved = api.post("/v1/customers/bulk", {"items": [{"external_id": "acme", "name": "Ours"}]})
        assert saved["items"][0]["outcome"] == "created"
        theirs.refresh_from_db()
        assert theirs.name == "Theirs"
        assert api.patch(f"/v1/customers/{ids.encode('cus', theirs.pk)}", {"name": "x"}).status == 404

    def test_refuses_a_body_that_is_nested_without_end(self, api: Api) -> None:
        refused = api.send("POST", "/v1/customers", raw=b'{"external_id": ' + b"[" * 100_000)
        assert (refused.status, refused["type"].rpartition("/")[2]) == (400, "invalid-request")
        assert "nested too deeply" in refused["detail"]

    def test_changes_those_that_a_gateway_registered_meanwhile(
        self, api: Api, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def calls_come_in(tenant_id: UUID) -> int:
            with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as gateway:
                gateway.execute("SELECT nb_touch_subjects(%s, %s, '{}')", [tenant_id, ["b", "c"]])
            return 0

        monkeypatch.setattr("tenants.services.customers._subjects", calls_come_in)
        items = [{"external_id": name, "name": f"Name of {name}"} for name in ("a", "b")]
        made = api.post("/v1/customers/bulk", {"items": items})
        assert made.status == 200
        assert [item["outcome"] for item in made["items"]] == ["created", "updated"]
        there = Customer.objects.filter(tenant=cast.tenant).order_by("external_id")
        assert [(c.external_id, c.name) for c in there] == [("a", "Name of a"), ("b", "Name of b"), ("c", "")]
