"""/v1/budgets as a client sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from budgets.models import Budget, PolicySnapshot
from noburn.kit import ids
from tenants.models import AuditEntry
from tests.support.api import Api
from tests.support.asgi import Answer
from tests.tenants.cast import Cast, api_of

pytestmark = pytest.mark.real_db

EACH: dict[str, Any] = {"scope": "customer", "window": "month", "limit_usd": "10"}


def version(cast: Cast) -> int:
    return PolicySnapshot.objects.get(pk=cast.tenant.pk).version


def create(api: Api, **fields: Any) -> Answer:
    made = api.post("/v1/budgets", {**EACH, **fields})
    assert made.status == 201, made
    return made


class TestBudgets:
    def test_creates_shows_and_lists(self, api: Api, cast: Cast) -> None:
        made = create(api)
        assert made["id"].startswith("bud_")
        assert made["name"] == "customer *: 10 USD per month"
        assert made["thresholds"] == [50, 80, 100]
        assert (made["limit_usd"], made["archived_at"]) == ("10", None)
        assert not {"limit_tokens", "limit_requests"} & set(made.body)
        again = api.get(f"/v1/budgets/{made['id']}")
        assert (again.body, again.headers["etag"]) == (made.body, made.headers["etag"])
        assert api.all("/v1/budgets") == [made.body]
        assert AuditEntry.objects.get(tenant=cast.tenant, action="budget.create").actor.startswith("key:key_")

    def test_counts_tokens_and_requests_as_numbers(self, api: Api) -> None:
        made = api.post(
            "/v1/budgets",
            {
                "scope": "tag",
                "tag": "feature",
                "metric": "tokens",
                "window": "day",
                "limit_tokens": 5000,
                "time_zone": "Asia/Tokyo",
                "action": "warn",
                "thresholds": [10],
            },
        )
        assert (made.status, made["limit_tokens"], made["tag"]) == (201, 5000, "feature")
        assert (made["thresholds"], made["action"]) == ([10], "warn")
        more = api.post(
            "/v1/budgets",
            {"scope": "tenant", "metric": "requests", "window": "minute", "limit_requests": 2**53},
        )
        assert (more["limit_requests"], more["subject"]) == (2**53, "*")

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"scope": "galaxy"}, "scope"),
            ({"scope": None}, "scope"),
            ({"window": "decade"}, "window"),
            ({"metric": "euro"}, "metric"),
            ({"limit_usd": None}, "limit_usd"),
            ({"limit_usd": 10}, "limit_usd"),
            ({"limit_usd": "-1"}, "limit_usd"),
            ({"limit_usd": "9000000.01"}, "limit_usd"),
            ({"limit_tokens": 5}, "limit_tokens"),
            ({"metric": "tokens", "limit_usd": "10", "limit_tokens": 5}, "limit_usd"),
            ({"action": "shout"}, "action"),
            ({"estimate": "guess"}, "estimate"),
            ({"on_expiry": "forget"}, "on_expiry"),
            ({"on_epoch_close": "forget"}, "on_epoch_close"),
            ({"thresholds": [80, 50]}, "thresholds"),
            ({"thresholds": [0]}, "thresholds[0]"),
            ({"thresholds": list(range(1, 12))}, "thresholds"),
            ({"subject": ""}, "subject"),
            ({"subject": "a\nb"}, "subject"),
            ({"tag": "feature"}, "tag"),
            ({"anchor_day": 32}, "anchor_day"),
            ({"anchor_day": "5"}, "anchor_day"),
            ({"window": "day", "anchor_day": 5}, "anchor_day"),
            ({"time_zone": "Mars/Olympus"}, "time_zone"),
            ({"name": "a\nb"}, "name"),
            ({"colour": "red"}, "colour"),
            ({"scope": "project", "subject": "elsewhere"}, "subject"),
        ],
    )
    def test_names_what_is_wrong(self, api: Api, fields: dict[str, Any], wrong: str) -> None:
        refused = api.post("/v1/budgets", {**EACH, **fields})
        assert (refused.status, refused.kind, set(refused.fields)) == (400, "invalid-request", {wrong})

    def test_names_everything_that_is_wrong_at_once(self, api: Api) -> None:
        refused = api.post("/v1/budgets", {"scope": "customer", "window": "day", "anchor_day": 3, "tag": "x"})
        assert set(refused.fields) == {"limit_usd", "anchor_day", "tag"}
        assert refused.fields["limit_usd"] == "is required"

    def test_changes_only_from_the_state_that_was_read(self, api: Api) -> None:
        made = create(api)
        path, tag = f"/v1/budgets/{made['id']}", made.headers["etag"]
        changes = {"limit_usd": "25", "name": "Each", "action": "warn", "thresholds": [90]}
        changed = api.patch(path, changes, headers={"If-Match": tag})
        assert changed.status == 200
        assert {name: changed[name] for name in changes} == changes
        stale = api.patch(path, {"limit_usd": "1"}, headers={"If-Match": tag})
        assert (stale.status, stale.kind) == (412, "precondition-failed")
        assert api.delete(path, headers={"If-Match": tag}).status == 412
        assert api.get(path)["limit_usd"] == "25"
        assert api.patch(path, {}).body == changed.body

    @pytest.mark.parametrize(
        "name", ["scope", "subject", "tag", "metric", "window", "anchor_day", "time_zone"]
    )
    def test_says_why_what_it_counts_cannot_change(self, api: Api, name: str) -> None:
        made = create(api)
        refused = api.patch(f"/v1/budgets/{made['id']}", {name: "x", "limit_usd": "x"})
        assert set(refused.fields) == {name, "limit_usd"}
        assert "make another" in refused.fields[name]

    def test_names_what_is_wrong_with_a_change(self, api: Api) -> None:
        path = f"/v1/budgets/{create(api)['id']}"
        for changes, wrong in (
            ({"limit_tokens": 5}, "limit_tokens"),
            ({"limit_usd": "-1"}, "limit_usd"),
            ({"name": "a\nb"}, "name"),
            ({"action": "shout"}, "action"),
            ({"thresholds": [101]}, "thresholds[0]"),
            ({"colour": "red"}, "colour"),
        ):
            assert set(api.patch(path, changes).fields) == {wrong}

    def test_archives_and_shows_it_still(self, api: Api) -> None:
        made, kept = create(api), create(api)
        path = f"/v1/budgets/{made['id']}"
        archived = api.delete(path)
        assert (archived.status, archived["archived_at"] is not None) == (200, True)
        assert api.get(path).body == archived.body
        assert api.patch(path, {"limit_usd": "1"}).status == 404
        assert api.delete(path).status == 404
        assert [b["id"] for b in api.all("/v1/budgets", archived="false")] == [kept["id"]]
        assert [b["id"] for b in api.all("/v1/budgets", archived="true")] == [made["id"]]

    def test_filters_by_what_it_is_and_by_part_of_its_name(self, api: Api) -> None:
        one = create(api, subject="acme")["id"]
        two = create(api, scope="user", window="day", action="warn", name="Small fry")["id"]
        three = api.post(
            "/v1/budgets", {"scope": "tenant", "metric": "requests", "window": "hour", "limit_requests": 5}
        )["id"]
        for query, wanted in (
            ({"scope": "user"}, {two}),
            ({"subject": "acme"}, {one}),
            ({"metric": "requests"}, {three}),
            ({"window": "month"}, {one}),
            ({"action": "warn"}, {two}),
            ({"search": "ACM"}, {one}),
            ({"search": "small"}, {two}),
            ({"search": "small", "scope": "tenant"}, set()),
        ):
            assert {b["id"] for b in api.all("/v1/budgets", limit=1, **query)} == wanted, query
        for odd in ("scope=galaxy", "window=x", "colour=red", "archived=maybe"):
            assert api.get(f"/v1/budgets?{odd}").status == 400, odd
        (wrong,) = api.get("/v1/budgets?action=stop")["errors"]
        assert wrong == {"field": "action", "message": "must be one of block, warn, downgrade"}
        assert api.get("/v1/budgets", fields="id,limit_usd", scope="user")["items"] == [
            {"id": two, "limit_usd": "10"}
        ]

    def test_makes_one_of_a_repeated_request(self, api: Api, cast: Cast) -> None:
        first = api.post("/v1/budgets", EACH, key="k1")
        assert api.post("/v1/budgets", EACH, key="k1").body == first.body
        assert Budget.objects.filter(tenant=cast.tenant).count() == 1
        assert api.post("/v1/budgets", EACH, key=None).kind == "idempotency-key-missing"


class TestSaveBudgets:
    def test_makes_and_changes_many_under_one_version(self, api: Api, cast: Cast) -> None:
        known, before = create(api), version(cast)
        saved = api.post(
            "/v1/budgets/bulk",
            {
                "items": [
                    {**EACH, "subject": "acme"},
                    {"id": known["id"], "limit_usd": "25"},
                    {"scope": "user", "metric": "tokens", "window": "day", "limit_tokens": 7},
                ]
            },
        )
        assert saved.status == 200, saved
        assert [b.get("limit_usd", b.get("limit_tokens")) for b in saved["items"]] == ["10", "25", 7]
        assert saved["items"][1]["id"] == known["id"]
        # The one that was made alone is not counted.
        assert version(cast) == before + 1

    def test_takes_a_thousand(self, api: Api, cast: Cast) -> None:
        items: list[dict[str, Any]] = [{**EACH, "subject": f"c{n}"} for n in range(1_000)]
        saved = api.post("/v1/budgets/bulk", {"items": items})
        assert saved.status == 200, saved
        before = version(cast)
        edits = [{"id": b["id"], "limit_usd": "20"} for b in saved["items"]]
        assert api.post("/v1/budgets/bulk", {"items": edits}).status == 200
        assert version(cast) == before + 1
        assert Budget.objects.filter(tenant=cast.tenant, limit=20 * 10**9).count() == 1_000
        assert set(api.post("/v1/budgets/bulk", {"items": [*edits, EACH]}).fields) == {"items"}

    def test_does_nothing_when_anything_is_wrong_and_names_it(self, api: Api, cast: Cast) -> None:
        known, before = create(api), version(cast)
        never = ids.encode("bud", ids.decode("bud", known["id"]).__class__(int=7))
        refused = api.post(
            "/v1/budgets/bulk",
            {
                "items": [
                    EACH,
                    {**EACH, "limit_usd": "x"},
                    {"id": known["id"], "scope": "user"},
                    {"window": "day"},
                    {"id": "nonsense"},
                    {**EACH, "colour": "red"},
                    7,
                ]
            },
        )
        assert set(refused.fields) == {
            "items[1].limit_usd",
            "items[2].scope",
            "items[3].scope",
            "items[4].id",
            "items[5].colour",
            "items[6]",
        }
        refused = api.post(
            "/v1/budgets/bulk",
            {
                "items": [
                    {k: v for k, v in EACH.items() if k != "limit_usd"},
                    {**EACH, "tag": "x"},
                    {"id": known["id"], "limit_requests": 5},
                ]
            },
        )
        assert set(refused.fields) == {"items[0].limit_usd", "items[1].tag", "items[2].limit_requests"}
        refused = api.post("/v1/budgets/bulk", {"items": [EACH, {"id": never, "limit_usd": "1"}]})
        assert set(refused.fields) == {"items[1].id"}
        assert version(cast) == before
        bodies: tuple[dict[str, Any], ...] = ({"items": []}, {}, {"items": "x"})
        for body in bodies:
            assert set(api.post("/v1/budgets/bulk", body).fields) == {"items"}


class TestAccess:
    def test_answers_for_anothers_budget_as_for_none(self, api: Api, cast: Cast) -> None:
        theirs = create(api_of(cast.charlie.tenant, "read", "manage"))["id"]
        never = ids.encode("bud", ids.decode("bud", theirs).__class__(int=7))
        requests: tuple[Callable[[str], Answer], ...] = (
            lambda path: api.get(path),
            lambda path: api.patch(path, {"limit_usd": "1"}),
            lambda path: api.delete(path),
            lambda path: api.get(f"{path}/counters"),
            lambda path: api.get(f"{path}/overrides"),
            lambda path: api.put(f"{path}/overrides", {"subject": "a", "limit_usd": "1"}),
            lambda path: api.delete(f"{path}/overrides/ovr_{26 * '0'}"),
            lambda path: api.post(f"{path}/overrides/bulk", {"items": []}),
            lambda path: api.get(f"{path}/increases"),
            lambda path: api.post(f"{path}/increases", {}),
            lambda path: api.post(f"{path}/increases/inc_{26 * '0'}/cancel"),
        )
        for send in requests:
            told = [send(f"/v1/budgets/{wanted}") for wanted in (theirs, never, "nonsense")]
            assert {a.status for a in told} == {404}
            assert len({(a["type"], a["detail"]) for a in told}) == 1
        assert api.all("/v1/budgets") == []

    def test_lets_viewers_and_reading_keys_look_and_not_touch(self, api: Api, cast: Cast) -> None:
        path = f"/v1/budgets/{create(api)['id']}"
        reader, viewer = api_of(cast.tenant, "read"), Api(user=cast.bob.user)
        for who, kind in ((reader, "forbidden-scope"), (viewer, "forbidden-role")):
            assert who.get(path).status == 200
            assert who.get(f"{path}/counters").status == 200
            for refused in (
                who.post("/v1/budgets", EACH),
                who.post("/v1/budgets/bulk", {"items": [EACH]}),
                who.patch(path, {"limit_usd": "1"}),
                who.delete(path),
                who.put(f"{path}/overrides", {"subject": "a", "limit_usd": "1"}),
                who.post(f"{path}/overrides/bulk", {"items": []}),
                who.post(f"{path}/increases", {}),
            ):
                assert (refused.status, refused.kind) == (403, kind)
        assert api_of(cast.tenant, "preflight").get(path).kind == "forbidden-scope"
        assert Api().get(path).kind == "unauthorized"
