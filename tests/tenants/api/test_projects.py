from __future__ import annotations

import pytest

from noburn.kit import ids
from tenants.models import AuditEntry, IdempotentAnswer, Project
from tests.support.api import Api
from tests.tenants.cast import Cast, api_of

pytestmark = pytest.mark.real_db


class TestProjects:
    def test_creates_shows_and_lists(self, api: Api, cast: Cast) -> None:
        made = api.post("/v1/projects", {"slug": "web", "name": "Web shop"})
        assert made.status == 201, made
        assert made["id"].startswith("prj_")
        again = api.get(f"/v1/projects/{made['id']}")
        assert again.body == made.body
        assert again.headers["etag"] == made.headers["etag"]
        assert [p["slug"] for p in api.all("/v1/projects")] == ["web", "default"]
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="project.create")
        assert entry.actor.startswith("key:key_")

    def test_names_every_wrong_field(self, api: Api) -> None:
        refused = api.post("/v1/projects", {"slug": "", "name": 5 * [1], "colour": "red"})
        assert (refused.status, refused.kind) == (400, "invalid-request")
        assert set(refused.fields) == {"slug", "name", "colour"}
        assert api.post("/v1/projects", {"slug": "Not A Slug", "name": "x"}).fields.keys() == {"slug"}

    def test_changes_a_name_only_from_the_state_that_was_read(self, api: Api) -> None:
        made = api.post("/v1/projects", {"slug": "web", "name": "Web"})
        path, tag = f"/v1/projects/{made['id']}", made.headers["etag"]
        changed = api.patch(path, {"name": "Shop"}, headers={"If-Match": tag})
        assert (changed.status, changed["name"]) == (200, "Shop")
        stale = api.patch(path, {"name": "Other"}, headers={"If-Match": tag})
        assert (stale.status, stale.kind) == (412, "precondition-failed")
        assert stale["etag"] == changed.headers["etag"]
        assert api.get(path)["name"] == "Shop"

    def test_answers_304_to_who_has_it_already(self, api: Api) -> None:
        made = api.post("/v1/projects", {"slug": "web", "name": "Web"})
        same = api.get(f"/v1/projects/{made['id']}", headers={"If-None-Match": made.headers["etag"]})
        assert (same.status, same.body) == (304, None)

    def test_shows_the_chosen_fields_and_knows_no_others(self, api: Api) -> None:
        assert api.get("/v1/projects", fields="slug")["items"] == [{"slug": "default"}]
        refused = api.get("/v1/projects", fields="slug,colour")
        assert (refused.status, set(refused.fields)) == (400, {"fields"})

    @pytest.mark.parametrize("query", ["colour=red", "limit=0", "limit=201", "cursor=xyz"])
    def test_refuses_parameters_that_mean_nothing(self, api: Api, query: str) -> None:
        refused = api.get(f"/v1/projects?{query}")
        assert (refused.status, set(refused.fields)) == (400, {query.partition("=")[0]})

    def test_goes_through_a_list_page_by_page(self, api: Api) -> None:
        slugs = [f"p{n}" for n in range(7)]
        for slug in slugs:
            assert api.post("/v1/projects", {"slug": slug, "name": slug}).status == 201
        assert len(api.get("/v1/projects", limit=3)["items"]) == 3
        assert [p["slug"] for p in api.all("/v1/projects", limit=3)] == [*reversed(slugs), "default"]
        assert [p["slug"] for p in api.all("/v1/projects", slug="p3")] == ["p3"]


class TestIdempotency:
    def test_answers_a_repeat_as_before_and_makes_nothing(self, api: Api, cast: Cast) -> None:
        first = api.post("/v1/projects", {"slug": "web", "name": "Web"}, key="k1")
        again = api.post("/v1/projects", {"slug": "web", "name": "Web"}, key="k1")
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["etag"] == first.headers["etag"]
        assert Project.objects.filter(tenant=cast.tenant, slug="web").count() == 1

    def test_refuses_the_key_for_another_request(self, api: Api) -> None:
        api.post("/v1/projects", {"slug": "web", "name": "Web"}, key="k1")
        other = api.post("/v1/projects", {"slug": "app", "name": "App"}, key="k1")
        assert (other.status, other.kind) == (409, "idempotency-conflict")

    def test_keeps_no_refusal_so_that_a_mended_request_may_follow(self, api: Api, cast: Cast) -> None:
        assert api.post("/v1/projects", {"slug": "-", "name": "Web"}, key="k1").status == 400
        assert api.post("/v1/projects", {"slug": "web", "name": "Web"}, key="k1").status == 201
        assert IdempotentAnswer.objects.filter(tenant=cast.tenant).count() == 1

    def test_needs_a_key_on_every_post(self, api: Api) -> None:
        refused = api.post("/v1/projects", {"slug": "web", "name": "Web"}, key=None)
        assert (refused.status, refused.kind) == (400, "idempotency-key-missing")


class TestAccess:
    def test_answers_for_anothers_project_as_for_none(self, api: Api, cast: Cast) -> None:
        theirs = ids.encode(ids.PROJECT, cast.charlie.project.pk)
        never = ids.encode(ids.PROJECT, ids.decode(ids.PROJECT, theirs).__class__(int=7))
        for send in (api.get, lambda path: api.patch(path, {"name": "x"})):
            told = [send(f"/v1/projects/{wanted}") for wanted in (theirs, never, "nonsense")]
            assert {a.status for a in told} == {404}
            assert len({(a["type"], a["detail"]) for a in told}) == 1

    def test_asks_for_a_key_and_for_its_scope(self, cast: Cast) -> None:
        assert Api().get("/v1/projects").kind == "unauthorized"
        assert Api(secret="nb_live_x").get("/v1/projects").status == 401
        assert api_of(cast.tenant, "preflight", "settle").get("/v1/projects").kind == "forbidden-scope"
        reader = api_of(cast.tenant, "read")
        assert reader.get("/v1/projects").status == 200
        assert reader.post("/v1/projects", {"slug": "web", "name": "W"}).kind == "forbidden-scope"

    def test_lets_members_do_what_their_role_says(self, cast: Cast) -> None:
        owner, viewer = Api(user=cast.alice.user), Api(user=cast.bob.user)
        assert owner.post("/v1/projects", {"slug": "web", "name": "Web"}).status == 201
        assert len(viewer.get("/v1/projects")["items"]) == 2
        assert viewer.post("/v1/projects", {"slug": "app", "name": "App"}).kind == "forbidden-role"
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="project.create")
        assert entry.actor.startswith("user:mem_")

    def test_refuses_a_body_that_is_too_large_or_no_json(self, api: Api) -> None:
        assert api.post("/v1/projects", raw=b'{"slug": "' + b"x" * 1_100_000 + b'"}').kind == "body-too-large"
        assert api.post("/v1/projects", raw=b"{").kind == "invalid-request"
        assert api.post("/v1/projects", [1, 2]).kind == "invalid-request"
        assert api.send("PUT", "/v1/projects", {}).kind == "method-not-allowed"
