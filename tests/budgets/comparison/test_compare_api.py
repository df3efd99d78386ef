"""GET /v1/compare: what it answers, to whom, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from budgets.api.compare_answer import EXAMPLE
from budgets.domain.comparison_figures import Note
from budgets.domain.comparison_notes import OF_CALLS
from tests.api.schemas import Checker
from tests.api.test_openapi import document
from tests.budgets.comparison.traffic import HAIKU, MINI, PATH, api_of, call, roll
from tests.support.api import Api

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db


@pytest.fixture
def busy(alice: Account) -> Account:
    """Alice after three calls: two of a customer's that read from a cache, and another's."""
    for made in (100, 200):
        call(
            alice,
            "gpt-4o-mini",
            {"input_tokens": 20_500, "output_tokens": made, "cache_read_tokens": 20_000},
            tags={"task": "chat"},
        )
    call(alice, "claude-haiku-4-5", {"input_tokens": 1_000, "output_tokens": 10}, customer="zeta")
    return alice


class TestCompare:
    def test_says_what_calls_cost_here_and_there(self, busy: Account) -> None:
        roll()
        answer = api_of(busy).get(PATH, models=HAIKU, model="gpt-4o-mini")
        assert answer.status == 200, answer
        (item,) = answer["items"]
        example: dict[str, Any] = EXAMPLE
        # Two calls of 20,000 tokens at .075, 500 at .15, and 300 at .60 together; on Haiku at .10, 1 and 5 USD
        # for a million.
        assert item == example["items"][0]
        assert answer["totals"] == {name: value for name, value in item.items() if name != "group"}
        assert answer["candidates"] == example["candidates"]
        codes = [(warning["code"], warning["model"], warning["calls"]) for warning in answer["warnings"]]
        assert codes == [("tokenizers_differ", HAIKU, 2), ("cache_writes_unseen", HAIKU, 2)]
        assert "at most 3.8 times" in answer["warnings"][0]["message"]
        assert (answer["basis"], answer["calls_in_period"], answer["next_step"]) == ("calls", 2, None)

    def test_is_what_the_document_says(self, busy: Account) -> None:
        checker = Checker(document()["components"]["schemas"])
        responses = document()["paths"][PATH]["get"]["responses"]
        schema = responses["200"]["content"]["application/json"]["schema"]
        asked: list[dict[str, Any]] = [
            {"models": f"{HAIKU},{MINI}"},
            {"group_by": "customer"},
            {"customer": "nobody"},
        ]
        for query in asked:
            answer = api_of(busy).get(PATH, **query)
            assert answer.status == 200
            assert list(checker.errors(schema, answer.body)) == []

    def test_tells_groups_apart(self, busy: Account) -> None:
        api = api_of(busy)
        by_customer = api.get(PATH, group_by="customer")
        assert [item["group"] for item in by_customer["items"]] == [
            {"customer": "acme"},
            {"customer": "zeta"},
        ]
        by_project = api.get(PATH, group_by="project")
        assert [item["group"] for item in by_project["items"]] == [{"project": "default"}]
        by_tag = api.get(PATH, group_by="tag:task")
        assert [(item["group"], item["calls"]) for item in by_tag["items"]] == [({"tag:task": "chat"}, 2)]
        first = api.get(PATH, limit=1)
        assert (len(first["items"]), first["group_count"], first["totals"]["calls"]) == (1, 2, 3)

    def test_without_models_says_what_is_paid(self, busy: Account) -> None:
        answer = api_of(busy).get(PATH)
        assert (answer["candidates"], answer["totals"]["candidates"]) == ([], [])
        assert answer["totals"]["actual_usd"] == "0.00438"

    def test_without_calls_says_what_to_do(self, alice: Account) -> None:
        answer = api_of(alice).get(PATH, models=HAIKU)
        assert answer.status == 200
        assert (answer["items"], answer["warnings"], answer["group_count"]) == ([], [], 0)
        assert "/v1/settle" in answer["next_step"]
        totals = answer["totals"]
        assert (totals["calls"], totals["actual_usd"], totals["cache_hit_share"]) == (0, "0", None)
        assert totals["candidates"][0]["with_caching_usd"] is None
        assert totals["candidates"][0]["break_even"] is None

    def test_takes_a_factor_for_other_tokenizers(self, busy: Account) -> None:
        answer = api_of(busy).get(PATH, models=HAIKU, model="gpt-4o-mini", token_factor="1.2")
        (versus,) = answer["totals"]["candidates"]
        assert (answer["token_factor"], versus["with_caching_usd"]) == ("1.2", "0.0078")
        assert "multiplied by 1.2" in answer["warnings"][0]["message"]

    def test_has_words_for_every_warning(self) -> None:
        assert set(OF_CALLS) == set(Note) - {Note.TOKENIZERS_DIFFER}


class TestWhoMayAsk:
    def test_a_key_of_one_project_sees_that_project_alone(self, busy: Account) -> None:
        from tenants.services.projects import create_project

        made = create_project(
            tenant_id=busy.tenant_id, slug="app", name="App", actor="test", now=datetime.now(UTC)
        )
        call(
            busy,
            "gpt-4o-mini",
            {"input_tokens": 7, "output_tokens": 1},
            subject={"customer": "acme", "project": "app"},
        )
        api = api_of(busy, project_id=made.pk)
        assert api.get(PATH)["totals"]["input_tokens"] == 7
        assert api.get(PATH, project="app")["totals"]["input_tokens"] == 7
        refused = api.get(PATH, project="default")
        assert (refused.status, set(refused.fields)) == (400, {"project"})

    def test_another_tenant_sees_nothing_of_it(self, world: World, busy: Account) -> None:
        charlie = world.account("charlie")
        roll()
        answer = api_of(charlie).get(PATH, customer="acme")
        assert (answer["totals"]["calls"], answer["calls_in_period"]) == (0, 0)

    def test_a_key_that_may_not_read_is_refused(self, alice: Account) -> None:
        api = Api(secret=alice.key(("preflight",)).secret)
        assert (api.get(PATH).status, api.get(PATH).kind) == (403, "forbidden-scope")


class TestWrongQuestions:
    @pytest.mark.parametrize(
        ("query", "fields"),
        [
            ({"models": "openai/no-such-model"}, {"models"}),
            ({"models": "no-such-provider/gpt-4o-mini-2"}, {"models"}),
            ({"models": ",".join(f"openai/m{at}" for at in range(11))}, {"models"}),
            ({"models": f"{MINI},openai/gpt-4o-mini-2024-07-18"}, {"models"}),
            ({"models": f"{MINI},{MINI}"}, {"models"}),
            ({"models": ""}, {"models"}),
            ({"models": f"{MINI},"}, {"models"}),
            ({"period": "1y"}, {"period"}),
            ({"period": "7d", "from": "2026-11-01T00:00:00Z"}, {"period"}),
            ({"from": "yesterday", "token_factor": "x", "limit": "0"}, {"from", "token_factor", "limit"}),
            ({"from": "2026-01-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, {"from"}),
            ({"group_by": "user"}, {"group_by"}),
            ({"group_by": "model,customer"}, {"group_by"}),
            ({"group_by": "tag:"}, {"group_by"}),
            ({"group_by": "tag:task", "tag": "team:x"}, {"tag"}),
            ({"tag": "task"}, {"tag"}),
            ({"token_factor": "0"}, {"token_factor"}),
            ({"token_factor": "1e3"}, {"token_factor"}),
            ({"limit": "201"}, {"limit"}),
            ({"customer": "x" * 201}, {"customer"}),
            ({"user": "u1"}, {"user"}),
        ],
    )
    def test_name_every_field_that_is_wrong(
        self, alice: Account, query: dict[str, Any], fields: set[str]
    ) -> None:
        answer = api_of(alice).send("GET", PATH, **query)
        assert (answer.status, answer.kind, set(answer.fields)) == (400, "invalid-request", fields)

    def test_name_the_model_that_nobody_knows(self, alice: Account) -> None:
        answer = api_of(alice).get(PATH, models=f"{MINI},openai/gpt-99")
        assert [error["field"] for error in answer["errors"]] == ["models"]
        assert "'openai/gpt-99'" in answer["errors"][0]["message"]

    def test_may_span_92_days_and_no_more(self, alice: Account) -> None:
        end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        api = api_of(alice)
        for days, status in ((92, 200), (93, 400)):
            since: Any = (end - timedelta(days=days)).isoformat()
            assert api.get(PATH, from_=since, to=end.isoformat()).status == status
