"""GET /v1/decisions, against what a gateway decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.rest.etags import etag_of
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

MINI: dict[str, Any] = {"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500}
PATH = "/v1/decisions"


def written(account: Account) -> Api:
    """The API as the tenant's key sees it, once the gateway has written what it decided."""
    account.world.run(account.world.app._plane.decisions.flush())
    return Api(secret=account.secret)


def found(account: Account, **query: Any) -> list[int]:
    """The input tokens of the decisions that a question finds: what tells them apart here."""
    return [item["input_tokens"] for item in written(account).all(PATH, **query)]


@pytest.fixture
def busy(alice: Account) -> Account:
    """Alice after seven calls of several kinds; input tokens number them."""
    alice.budget("poor", "$0.0001")
    alice.budget("watched", "$0.0001", action="warn")
    mini: dict[str, Any] = {"model": "gpt-4o-mini", "max_output_tokens": 500}
    alice.place(**mini, input_tokens=1, customer="acme", tags={"feature": "chat"})
    alice.place(**mini, input_tokens=2, customer="poor")
    alice.place(**mini, input_tokens=3, customer="watched")
    alice.place(model="no-such-model", input_tokens=4, customer="acme")
    alice.place(**mini, input_tokens=5, subject={"customer": "acme", "user": "u1", "run": "r1"})
    alice.place(**{**mini, "model": "gpt-4o"}, input_tokens=6, tags={"feature": "search", "a=b": "c"})
    alice.place(model="claude-haiku-4-5", max_output_tokens=10, input_tokens=7, customer="zeta")
    return alice


class TestList:
    def test_shows_the_newest_first(self, busy: Account) -> None:
        assert found(busy) == [7, 6, 5, 4, 3, 2, 1]

    def test_goes_on_page_by_page_while_more_is_logged(self, busy: Account) -> None:
        api = written(busy)
        first = api.get(PATH, limit=3)
        assert [item["input_tokens"] for item in first["items"]] == [7, 6, 5]
        busy.place(**MINI)
        second = written(busy).get(PATH, limit=3, cursor=first["next_cursor"])
        assert [item["input_tokens"] for item in second["items"]] == [4, 3, 2]
        last = api.get(PATH, limit=3, cursor=second["next_cursor"])
        assert ([item["input_tokens"] for item in last["items"]], last["next_cursor"]) == ([1], None)

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ({"decision": "allow"}, [7, 6, 5, 3, 1]),
            ({"decision": "deny"}, [4, 2]),
            ({"reason": "price_unknown"}, [4]),
            ({"reason": "budget_busy"}, []),
            ({"customer": "acme"}, [6, 5, 4, 1]),
            ({"customer": "acme", "decision": "deny"}, [4]),
            ({"user": "u1"}, [5]),
            ({"run": "r1"}, [5]),
            ({"project": "default"}, [7, 6, 5, 4, 3, 2, 1]),
            ({"project": "other"}, []),
            ({"model": "gpt-4o"}, [6]),
            ({"provider": "anthropic"}, [7]),
            ({"tag": "feature"}, [6, 1]),
            ({"tag": "feature=chat"}, [1]),
            ({"tag": "feature="}, []),
        ],
    )
    def test_filters(self, busy: Account, query: dict[str, str], numbers: list[int]) -> None:
        assert found(busy, **query) == numbers

    def test_finds_what_a_budget_refused_and_what_it_would_have(self, busy: Account) -> None:
        for name, number in (("poor", 2), ("watched", 3)):
            assert found(busy, budget=ids.encode(ids.BUDGET, busy.budgets[name].pk)) == [number]

    def test_filters_by_time(self, busy: Account) -> None:
        items = written(busy).all(PATH)
        middle = items[3]["decided_at"]
        assert found(busy, from_=middle) == [7, 6, 5, 4]
        assert found(busy, to=middle) == [3, 2, 1]
        later = datetime.now(UTC) + timedelta(hours=3)
        assert found(busy, from_=later.isoformat()) == []
        assert found(busy, to=(later - timedelta(days=2)).isoformat()) == []

    def test_shows_what_came_after_a_decision_for_a_feed(self, busy: Account) -> None:
        newest = written(busy).get(PATH, limit=1)["items"][0]["id"]
        assert found(busy, after=newest) == []
        busy.place(**MINI, customer="acme")
        busy.place(**{**MINI, "input_tokens": 99}, customer="zeta")
        assert found(busy, after=newest) == [99, 1200]
        assert found(busy, after=newest, customer="acme") == [1200]
        assert found(busy, after=newest, limit=1) == [99, 1200]

    def test_shows_chosen_fields_alone(self, busy: Account) -> None:
        answer = written(busy).get(PATH, fields="id,reason", limit=1)
        assert set(answer["items"][0]) == {"id", "reason"}

    def test_names_every_parameter_that_is_wrong(self, alice: Account) -> None:
        wrong: dict[str, Any] = {
            "decision": "maybe", "reason": "because", "budget": "cus_1", "after": "dec_1", "from": "now",
            "to": "2026-01-01", "customer": "x" * 201,
        }  # fmt: skip
        answer = written(alice).send("GET", PATH, **wrong)
        assert (answer.status, set(answer.fields)) == (400, set(wrong))
        others: list[dict[str, Any]] = [
            {"colour": "red"},
            {"customer": "", "tag": ""},
            {"limit": "0"},
            {"cursor": "x"},
            {"fields": "nothing"},
        ]
        for query in others:
            answer = written(alice).send("GET", PATH, **query)
            assert (answer.status, set(answer.fields)) == (400, set(query))


class TestOne:
    def test_shows_an_allowed_call_with_its_hold_and_the_tightest_budget(self, alice: Account) -> None:
        alice.budget("acme", "$10", window="month")
        placed = alice.place(**MINI, tools={"web_search": 1}, fingerprint="abc", service_tier="flex")
        item = written(alice).get(PATH)["items"][0]
        assert (item["decision"], item["reason"], item["hold_id"]) == ("allow", None, placed["hold"]["id"])
        assert item["budget"] == {
            "id": ids.encode(ids.BUDGET, alice.budgets["acme"].pk),
            "subject": "acme",
            "limit_usd": "10",
            "remaining_usd": placed["budgets"][0]["remaining_usd"],
            "room_usd": None,
        }
        assert (item["estimate_usd"], item["cost_usd"]) == (placed["hold"]["amount_usd"], None)
        assert (item["tools"], item["service_tier"], len(item["fingerprint"])) == (
            {"web_search": 1},
            "flex",
            32,
        )
        assert item["api_key"] == ids.encode(ids.API_KEY, alice.issued.key.pk)
        answer = written(alice).get(f"{PATH}/{item['id']}")
        assert (answer.status, answer.body) == (200, item)
        assert answer.headers["etag"] == etag_of(item)

    def test_shows_a_refusal_in_its_budget_s_unit(self, alice: Account) -> None:
        alice.budget("acme", 1000, metric="tokens")
        alice.place(**MINI)
        item = written(alice).get(PATH)["items"][0]
        assert (item["decision"], item["reason"], item["hold_id"]) == ("deny", "budget_exceeded", None)
        assert item["budget"] == {
            "id": ids.encode(ids.BUDGET, alice.budgets["acme"].pk),
            "subject": "acme", "limit_tokens": 1000, "remaining_tokens": 1000, "room_tokens": 1000,
        }  # fmt: skip

    def test_shows_which_warnings_were_given(self, alice: Account) -> None:
        alice.budget("acme", "$0.10", action="warn")
        alice.place("$0.20")
        item = written(alice).get(PATH)["items"][0]
        assert item["shadow"] == [ids.encode(ids.BUDGET, alice.budgets["acme"].pk)]
        assert (item["budget"], item["cost_usd"]) == (None, "0.2")

    def test_is_not_found_where_there_is_none(self, alice: Account) -> None:
        api = written(alice)
        for name in ("dec_01jd2c8vq6f5k9s0m3w7x4y1z2", "hold_01jd2c8vq6f5k9s0m3w7x4y1z2", "nothing"):
            assert api.get(f"{PATH}/{name}").status == 404


class TestGaps:
    def test_are_told_with_every_page(self, alice: Account, world: World) -> None:
        log, now = world.app._plane.decisions, datetime.now(UTC)
        assert (written(alice).get(PATH)["dropped"], written(alice).get(PATH)["gaps"]) == (0, [])
        alice.place(**MINI)
        log.missed(alice.tenant_id)
        log.missed(alice.tenant_id)
        answer = written(alice).get(PATH)
        assert (answer["dropped"], answer["gaps"][0]["dropped"], answer["gaps"][0]["why"]) == (
            2,
            2,
            "refused",
        )
        started = datetime.fromisoformat(answer["gaps"][0]["started_at"])
        assert now <= started <= datetime.now(UTC)
        late = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        assert written(alice).get(PATH, from_=late)["dropped"] == 0
        assert written(alice).get(PATH, after=answer["items"][0]["id"])["dropped"] in (0, 2)

    def test_of_another_tenant_are_not_told(self, alice: Account, world: World) -> None:
        world.app._plane.decisions.missed(world.account("charlie").tenant_id)
        assert written(alice).get(PATH)["dropped"] == 0


class TestWhoMayRead:
    def test_is_nobody_of_another_tenant(self, busy: Account, world: World) -> None:
        charlie = world.account("charlie")
        mine = written(busy).all(PATH)
        theirs = written(charlie)
        assert theirs.all(PATH) == []
        assert theirs.all(PATH, customer="acme") == []
        assert theirs.get(f"{PATH}/{mine[0]['id']}").status == 404
        assert theirs.get(PATH, after=mine[-1]["id"])["items"] == []
        budget = ids.encode(ids.BUDGET, busy.budgets["poor"].pk)
        assert theirs.all(PATH, budget=budget) == []

    def test_is_a_key_with_the_scope_read(self, alice: Account) -> None:
        for scopes, status in ((["read"], 200), (["preflight", "settle"], 403)):
            assert Api(secret=alice.key(scopes).secret).get(PATH).status == status
        assert Api().get(PATH).status == 401

    def test_is_a_key_of_one_project_for_that_project_alone(self, alice: Account) -> None:
        from tenants.services.projects import create_project

        made = create_project(
            tenant_id=alice.tenant_id, slug="web", name="Web", actor="test", now=datetime.now(UTC)
        )
        alice.place(**MINI)
        alice.place(**{**MINI, "input_tokens": 7}, subject={"project": "web"})
        everything = written(alice).all(PATH)
        web = Api(secret=alice.key(project_id=made.pk).secret)
        assert [item["input_tokens"] for item in web.all(PATH)] == [7]
        assert web.get(PATH, project="default").status == 400
        assert [web.get(f"{PATH}/{item['id']}").status for item in everything] == [200, 404]

    def test_nobody_may_write(self, alice: Account) -> None:
        api = written(alice)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert api.send(method, PATH, {}).status == 405
