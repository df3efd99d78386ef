from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings

from noburn.kit import ids
from tenants.models import ApiKey, Customer, IdempotentAnswer, Member, Role
from tenants.services.keys import issue_key
from tests.support.api import Api
from tests.tenants.cast import ACTOR, NOW, Cast, api_of, unique

pytestmark = pytest.mark.real_db


@pytest.fixture
def owner(cast: Cast) -> Api:
    return Api(user=cast.alice.user)


def add(api: Api, role: str) -> Any:
    return api.post("/v1/members", {"email": f"{unique('dave')}@Example.com", "role": role})


class TestMembers:
    def test_adds_changes_and_removes(self, owner: Api, cast: Cast) -> None:
        made = add(owner, "viewer")
        assert (made.status, made["role"]) == (201, "viewer")
        assert made["email"] == made["email"].lower()
        path = f"/v1/members/{made['id']}"
        assert owner.patch(path, {"role": "billing"})["role"] == "billing"
        assert owner.delete(path).status == 204
        assert owner.get(path).status == 404
        assert [e["action"] for e in owner.all("/v1/audit") if e["object"] == made["id"]] == [
            "member.remove",
            "member.change_role",
            "member.add",
        ]

    def test_lets_only_owners_make_and_unmake_owners(self, owner: Api, api: Api, cast: Cast) -> None:
        assert add(api, "admin").status == 201
        assert add(api, "owner").fields == {"role": "only an owner makes another owner"}
        second = add(owner, "owner")
        assert second.status == 201
        assert api.delete(f"/v1/members/{second['id']}").fields == {"role": "only an owner changes an owner"}
        assert owner.delete(f"/v1/members/{second['id']}").status == 204

    def test_keeps_the_last_owner(self, owner: Api, cast: Cast) -> None:
        (mine,) = owner.all("/v1/members", role="owner")
        assert owner.delete(f"/v1/members/{mine['id']}").status == 400
        assert owner.patch(f"/v1/members/{mine['id']}", {"role": "viewer"}).status == 400
        assert Member.objects.filter(tenant=cast.tenant, role=Role.OWNER).count() == 1

    def test_refuses_who_is_there_already_and_what_is_no_address(self, owner: Api, cast: Cast) -> None:
        assert set(owner.post("/v1/members", {"email": cast.bob.user.email, "role": "admin"}).fields) == {
            "email"
        }
        assert set(owner.post("/v1/members", {"email": "nobody", "role": "king"}).fields) == {"role"}
        assert set(owner.post("/v1/members", {"email": "nobody", "role": "admin"}).fields) == {"email"}


class TestSeveralTenants:
    def test_asks_for_the_tenant_where_there_are_several(self, owner: Api, cast: Cast) -> None:
        theirs = Member.objects.create(tenant=cast.charlie.tenant, user=cast.alice.user, role=Role.VIEWER)
        assert owner.get("/v1/tenant").status == 401
        for name in (cast.tenant.slug, cast.charlie.tenant.slug):
            assert Api(user=cast.alice.user, tenant=name).get("/v1/tenant")["slug"] == name
        chosen = Api(user=cast.alice.user, tenant=cast.charlie.tenant.slug)
        assert chosen.patch("/v1/tenant", {"name": "Mine"}).kind == "forbidden-role"
        theirs.delete()
        assert chosen.get("/v1/tenant").status == 401


class TestApiKeys:
    def test_shows_a_secret_once_and_keeps_it_nowhere(self, api: Api, cast: Cast) -> None:
        made = api.post("/v1/api-keys", {"name": "web", "scopes": ["read"]}, key="k1")
        assert made.status == 201
        assert Api(secret=made["secret"]).get("/v1/projects").status == 200
        again = api.post("/v1/api-keys", {"name": "web", "scopes": ["read"]}, key="k1")
        assert (again["id"], again["secret"]) == (made["id"], None)
        kept = IdempotentAnswer.objects.get(tenant=cast.tenant, key="k1")
        assert made["secret"] not in str(kept.body) + str(kept.headers)
        assert "secret" not in api.get(f"/v1/api-keys/{made['id']}").body
        assert made["secret"] not in str(api.all("/v1/audit"))

    def test_rotates_and_revokes(self, api: Api) -> None:
        made = api.post("/v1/api-keys", {"name": "web", "scopes": ["read"]})
        after = api.post(f"/v1/api-keys/{made['id']}/rotate", {"overlap_seconds": 3600})
        assert after.status == 201
        assert api.get(f"/v1/api-keys/{made['id']}")["replaced_by"] == after["id"]
        assert Api(secret=made["secret"]).get("/v1/projects").status == 200
        assert api.delete(f"/v1/api-keys/{after['id']}")["revoked_at"] is not None
        assert Api(secret=after["secret"]).get("/v1/projects").kind == "unauthorized"
        live = {k["id"] for k in api.all("/v1/api-keys", live="true")}
        assert made["id"] in live
        assert after["id"] not in live

    def test_binds_a_key_to_a_project_which_then_manages_nothing(self, api: Api, cast: Cast) -> None:
        made = api.post("/v1/api-keys", {"name": "w", "scopes": ["read", "manage"], "project": "default"})
        bound = Api(secret=made["secret"])
        assert bound.get("/v1/customers").kind == "forbidden-scope"
        assert bound.post("/v1/customers", {"external_id": "x"}).kind == "forbidden-scope"
        refused = api.post("/v1/api-keys", {"name": "w", "scopes": ["king"], "project": "none"})
        assert set(refused.fields) == {"scopes[0]"}
        assert set(api.post("/v1/api-keys", {"name": "w", "project": "none"}).fields) == {"project"}

    def test_notes_coarsely_when_a_key_was_used(self, cast: Cast) -> None:
        api_of(cast.tenant, "read").get("/v1/projects")
        assert ApiKey.objects.filter(tenant=cast.tenant, last_used_at__isnull=False).count() == 1


class TestAudit:
    def test_shows_what_changed_to_those_who_decide(self, api: Api, cast: Cast) -> None:
        api.patch("/v1/tenant", {"name": "Alice & Co"})
        (entry,) = api.all("/v1/audit", action="tenant.edit")
        assert (entry["before"], entry["after"]) == ({"name": cast.tenant.name}, {"name": "Alice & Co"})
        assert api.get(f"/v1/audit/{entry['id']}").body == entry
        assert Api(user=cast.bob.user).get("/v1/audit").kind == "forbidden-role"
        assert api.all("/v1/audit", from_="2999-01-01T00:00:00Z") == []
        assert set(api.get("/v1/audit", from_="yesterday").fields) == {"from"}
        assert api.post("/v1/audit", {}).kind == "method-not-allowed"


class TestRights:
    def test_are_those_that_hold_once_the_change_begins(
        self, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        issued = issue_key(
            tenant_id=cast.tenant.pk, name="k", scopes=["manage"], actor=ACTOR, now=NOW, project_id=None
        )

        def waits(*, tenant_id: UUID) -> None:
            with psycopg.connect(settings.DATABASE_OWNER_URL, autocommit=True) as other:
                other.execute("UPDATE tenants_apikey SET revoked_at = now() WHERE id = %s", [issued.key.pk])

        monkeypatch.setattr("tenants.api.base.lock_tenant", waits)
        refused = Api(secret=issued.secret).post("/v1/customers", {"external_id": "acme"})
        assert refused.status == 401
        assert not Customer.objects.filter(tenant=cast.tenant).exists()

    def test_a_change_does_not_depend_on_when_a_key_was_used(self, api: Api, cast: Cast) -> None:
        key = ApiKey.objects.filter(tenant=cast.tenant).order_by("created_at", "pk")[0]
        path = f"/v1/api-keys/{ids.encode(ids.API_KEY, key.pk)}"
        seen = api.get(path).headers["etag"]
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=NOW)
        again = api.get(path, headers={"If-None-Match": seen})
        assert again.status == 200
        assert again.headers["etag"] != seen
        ApiKey.objects.filter(pk=key.pk).update(name="another")
        assert api.delete(path, headers={"If-Match": seen}).status == 412
        ApiKey.objects.filter(pk=key.pk).update(name=key.name)
        assert api.delete(path, headers={"If-Match": seen}).status == 200
