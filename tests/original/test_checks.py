"""A check of the original client: a pre-flight in its words, which never answers so that it would let a call through."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tenants.services.rates import set_rates
from tests.gateway.test_policies import policy
from tests.original.wire import FIGURES, check, checking, open_checks, posting, tell
from tests.support.asgi import Answer

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


class TestDecision:
    def test_holds_what_the_event_settles(self, alice: Account) -> None:
        alice.budget("u1", "$1")
        assert check(alice, 0.4, end_user_id="u1")["allowed"] is True
        assert alice.remaining("u1") == 600_000_000
        told = tell(alice, 0.25, end_user_id="u1")
        assert (told.status, told.body) == (
            202,
            {"status": "recorded", "recorded": True, "matched": True, "cost_usd": 0.25},
        )
        assert alice.remaining("u1") == 750_000_000
        assert not alice.verify().differences

    def test_of_twenty_at_once_lets_through_what_the_budget_pays_for(self, alice: Account) -> None:
        alice.budget("all", "$1", scope="tenant")
        answers = alice.world.all(checking(alice, 0.25) for _ in range(20))
        assert sum(answer["allowed"] for answer in answers) == 4
        assert {answer["reason"] for answer in answers} == {None, "budget_exceeded"}

    def test_tells_the_figures_from_before_the_call(self, alice: Account) -> None:
        alice.budget("all", "$10", scope="tenant")
        alice.budget("u1", "$1")
        alice.budget("runs", "$0.5", scope="run", subject="*", window="run")
        check(alice, 0.25, end_user_id="u1", run_id="r1")
        answer = check(alice, 0.1, end_user_id="u1", run_id="r1")
        assert {name: value for name, value in answer.body.items() if name.endswith("_usd")} == {
            "project_spend_usd": 0.25,
            "project_cap_usd": 10,
            "project_remaining_usd": 9.75,
            "user_spend_usd": 0.25,
            "user_cap_usd": 1,
            "user_remaining_usd": 0.75,
            "run_spend_usd": 0.25,
            "run_cap_usd": 0.5,
            "run_remaining_usd": 0.25,
        }

    def test_never_tells_null_for_what_was_spent(self, alice: Account) -> None:
        alice.budget("u1", "$0.1")
        for answer in (check(alice, 0.1), check(alice, 0.4, end_user_id="u1"), check(alice, -1)):
            assert [answer[name] for name in FIGURES] == [0, 0, 0]

    @pytest.mark.parametrize(
        ("scope", "reason"),
        [
            ("tenant", "budget_exceeded"),
            ("project", "budget_exceeded"),
            ("run", "budget_exceeded"),
            ("plan", "budget_exceeded"),
            ("customer", "user_budget_exceeded"),
            ("user", "user_budget_exceeded"),
        ],
    )
    def test_names_whose_budget_is_exceeded(self, alice: Account, scope: str, reason: str) -> None:
        alice.budget("b", "$0.1", scope=scope, subject="*")
        answer = check(alice, 0.2, end_user_id="u1", run_id="r1", context={"plan": "free"})
        assert (answer["allowed"], answer["reason"]) == (False, reason)
        assert answer["budget"]["limit_usd"] == "0.1"
        who = {"budget_exceeded": "run" if scope == "run" else "project"}.get(reason, "user")
        assert answer[f"{who}_remaining_usd"] == 0.1

    def test_knows_a_project_by_its_id(self, alice: Account) -> None:
        from noburn.kit import ids
        from tenants.models import Project

        (project,) = Project.objects.filter(tenant_id=alice.tenant_id)
        assert check(alice, 0.1, project_id=ids.encode("prj", project.pk))["allowed"] is True

    def test_takes_a_customer_a_plan_and_tags_from_the_context(self, alice: Account) -> None:
        alice.budget("acme", "$1")
        alice.budget("chat", "$1", scope="tag", subject="feature=chat")
        answer = check(
            alice, 0.4, end_user_id="u1", context={"customer": "acme", "feature": "chat", "beta": True}
        )
        assert (answer["allowed"], answer["warnings"]) == (True, [])
        assert alice.remaining("acme") == 600_000_000
        assert tell(alice, 0.1, end_user_id="u1")["matched"] is True
        assert alice.remaining("acme") == 900_000_000

    def test_says_what_of_a_context_it_leaves_out(self, alice: Account) -> None:
        context: dict[str, Any] = {f"t{n:02}": "x" for n in range(11)} | {"list": [], "none": None}
        answer = check(alice, 0.1, context=context)
        assert answer["allowed"] is True
        assert [line.partition(" ")[0] for line in answer["warnings"]] == ["context.list", "context.t10"]


class TestAmount:
    def held(self, alice: Account, **fields: Any) -> int:
        alice.budget("all", "$1000", scope="tenant")
        answer = check(alice, **fields)
        assert answer["allowed"] is True, answer
        return 1000 * 10**9 - int(alice.remaining("all"))

    def test_is_the_price_books_for_the_tokens(self, alice: Account) -> None:
        fields = {"estimated_tokens_in": 1000, "estimated_tokens_out": 300}
        assert self.held(alice, model="gpt-4o", cost=0.0055, **fields) == 5_500_000

    def test_is_not_what_a_client_without_a_price_takes_for_it(self, alice: Account) -> None:
        fields = {"estimated_tokens_in": 1000, "estimated_tokens_out": 300}
        assert self.held(alice, model="gpt-4o", cost=0.0525, **fields) == 5_500_000

    def test_is_what_the_caller_knows_where_that_is_more(self, alice: Account) -> None:
        assert self.held(alice, model="gpt-4o", cost=0.25) == 250_000_000

    def test_is_the_callers_for_a_model_without_a_price(self, alice: Account) -> None:
        assert self.held(alice, model="own-tool", cost=0.25) == 250_000_000

    def test_is_of_the_default_cap_without_an_estimate_of_the_output(self, alice: Account) -> None:
        fields = {"estimated_tokens_in": 0, "estimated_tokens_out": 0}
        assert self.held(alice, model="gpt-4o", **fields) == 4096 * 10_000


class TestBadInput:
    def refused(self, answer: Answer, reason: str = "invalid_request") -> dict[str, str]:
        assert answer.status == 200, answer
        assert (answer["allowed"], answer["reason"]) == (False, reason)
        assert [answer[name] for name in FIGURES] == [0, 0, 0]
        assert answer["detail"]
        return answer.fields

    def test_is_refused_with_every_bad_field_named(self, alice: Account) -> None:
        answer = check(
            alice,
            cost="much",
            project_id="default",
            model="",
            end_user_id="x" * 201,
            run_id=[],
            estimated_tokens_in=-1,
            estimated_tokens_out=True,
            context="free",
        )
        assert set(self.refused(answer)) == {
            "model", "end_user_id", "run_id", "estimated_cost_usd", "estimated_tokens_in",
            "estimated_tokens_out", "context",
        }  # fmt: skip

    @pytest.mark.parametrize(
        "raw", [b"", b"{", b"[]", b'{"estimated_cost_usd": NaN}', b'{"model": "\\u0000"}']
    )
    def test_that_is_no_object_is_refused(self, alice: Account, raw: bytes) -> None:
        self.refused(alice.world.run(posting(alice, "/api/v1/check", None, raw=raw)))

    def test_under_seventeen_budgets_is_refused(self, alice: Account) -> None:
        for number in range(17):
            alice.budget(f"b{number}", "$1", subject="u1")
        answer = check(alice, 0.1, end_user_id="u1")
        assert (answer["allowed"], answer["reason"]) == (False, "too_many_budgets")

    def test_fractions_and_numbers_for_names_are_taken(self, alice: Account) -> None:
        alice.budget("7", 100, metric="tokens")
        answer = check(alice, 0.1, end_user_id=7, estimated_tokens_in=1.5, estimated_tokens_out=2)
        assert answer["allowed"] is True
        assert alice.remaining("7") == 96


class TestWhoAsks:
    def test_with_a_revoked_key_is_401(self, alice: Account) -> None:
        from datetime import UTC, datetime

        from tenants.services.keys import revoke_key

        other = alice.key()
        revoke_key(tenant_id=alice.tenant_id, key_id=other.key.pk, actor="test", now=datetime.now(UTC))
        body = {"project_id": "default", "model": "gpt-4o"}
        answer = alice.world.run(posting(alice, "/api/v1/check", body, secret=other.secret))
        assert (answer.status, answer.kind) == (401, "unauthorized")

    def test_with_another_method_is_405(self, alice: Account) -> None:
        answer = alice.world.request("GET", "/api/v1/check", secret=alice.secret)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


class TestTables:
    def test_of_prices_put_the_longest_name_first_and_a_negotiated_price_beside_its_neighbours(
        self, alice: Account
    ) -> None:
        body = alice.world.request("GET", "/api/v1/pricing?project_id=default", secret=alice.secret).body
        table = {
            row["model_prefix"]: (row["input_per_m"], row["output_per_m"]) for row in body["global_table"]
        }
        assert table["gpt-4o"] == (2.5, 10)
        assert table["gpt-4o-mini"] == (0.15, 0.6)
        assert table["claude-haiku-4-5"] == (1, 5)
        lengths = [len(row["model_prefix"]) for row in body["global_table"]]
        assert lengths == sorted(lengths, reverse=True)
        assert body["project_overrides"] == []
        assert body["unknown_model_floor"] == {"input_per_m": 30, "output_per_m": 75}

    def test_of_rules_are_empty(self, alice: Account) -> None:
        answer = alice.world.request("GET", "/api/v1/policy?project_id=default", secret=alice.secret)
        assert (answer.status, answer.body) == (200, {"rules": []})


class TestPolicies:
    RULES: ClassVar[list[dict[str, Any]]] = [
        {"name": "free", "when": {"plan": ["free"]}, "then": {"action": "block"}},
        {
            "name": "small",
            "when": {"tags": {"task": ["title"]}},
            "then": {"action": "use_tier", "tier": "small"},
        },
        {
            "name": "big",
            "when": {"tags": {"task": ["law"]}},
            "then": {"action": "use_model", "model": "gpt-4.1"},
        },
    ]

    def told(self, alice: Account, task: str, **fields: Any) -> Answer:
        return check(
            alice,
            model="gpt-4o",
            estimated_tokens_in=1_000,
            context={"task": task, **fields},
            end_user_id="u1",
        )

    def test_are_told_as_tiers(self, alice: Account) -> None:
        policy(alice, self.RULES)
        tiers = [self.told(alice, task)["forced_model_tier"] for task in ("title", "law", "chat")]
        assert tiers == ["small", "small", None]
        refused = self.told(alice, "title", plan="free")
        assert (refused["allowed"], refused["reason"], refused["forced_model_tier"]) == (
            False,
            "policy_rule",
            None,
        )

    @pytest.mark.parametrize("used", ["gpt-4o-mini", "gpt-4o", "gpt-4.1-nano"])
    def test_let_the_event_name_whichever_model_was_called(self, alice: Account, used: str) -> None:
        alice.budget("u1", "$1")
        policy(alice, self.RULES)
        assert self.told(alice, "title")["forced_model_tier"] == "small"
        assert tell(alice, model=used, tokens_in=900, end_user_id="u1")["matched"] is True
        assert open_checks(alice) == []
        assert tell(alice, model=used, tokens_in=901, end_user_id="u1")["matched"] is False
        assert not alice.verify().differences


class TestQuota:
    def test_is_that_of_the_end_users_plan(self, alice: Account) -> None:
        alice.budget("free", 2, scope="user", subject="*", metric="requests", window="day", plan="free")
        who: dict[str, Any] = {"end_user_id": "u1", "context": {"plan": "free"}}
        before = self.asked(alice, "plan=free")
        assert (before["limit_type"], before["limit"], before["used"]) == ("requests", 2, 0)
        assert (before["window"], before["plan"], before["upgrade_suggested"]) == ("day", "free", False)
        assert [check(alice, 0.1, **who)["quota"]["used"] for _ in range(2)] == [0, 1]
        refused = check(alice, 0.1, **who)
        assert (refused["allowed"], refused["reason"]) == (False, "quota_exceeded")
        assert (refused["quota"]["remaining"], refused["quota"]["upgrade_suggested"]) == (0, True)
        assert self.asked(alice, "plan=free")["upgrade_suggested"] is True
        assert self.asked(alice, "plan=pro") is None
        assert check(alice, 0.1, end_user_id="u1", context={"plan": "pro"})["quota"] is None

    def test_in_usd_says_whether_a_call_would_fit(self, alice: Account) -> None:
        alice.budget("free", "$0.5", scope="customer", subject="*", window="month", plan="free")
        check(alice, 0.2, end_user_id="u1", context={"plan": "free"})
        told = self.asked(alice, "plan=free&estimated_cost_usd=0.3")
        assert (told["limit"], told["used"], told["remaining"]) == (0.5, 0.2, 0.3)
        assert told["upgrade_suggested"] is False
        assert self.asked(alice, "plan=free&estimated_cost_usd=3.1e-01")["upgrade_suggested"] is True

    @pytest.mark.parametrize("query", ["end_user_id=", "end_user_id=u1&estimated_cost_usd=NaN"])
    def test_that_is_asked_wrongly_is_400(self, alice: Account, query: str) -> None:
        path = f"/api/v1/quota?project_id=default&{query}"
        assert alice.world.request("GET", path, secret=alice.secret).status == 400

    def asked(self, alice: Account, query: str) -> Any:
        path = f"/api/v1/quota?project_id=default&end_user_id=u1&{query}"
        answer = alice.world.request("GET", path, secret=alice.secret)
        assert answer.status == 200, answer
        return answer["quota"]


class TestRates:
    def test_refuse_a_check_too_many_and_no_event(self, alice: Account) -> None:
        alice.budget("all", "$5", scope="tenant")
        set_rates(
            tenant_id=alice.tenant_id, rates={"calls_per_second": 1}, actor="test", now=datetime.now(UTC)
        )
        answers = [check(alice, 0.01) for _ in range(12)]
        # Never 429, after which the client lets calls through.
        assert {answer.status for answer in answers} == {200}
        assert {answer["reason"] for answer in answers} == {None, "too_many_requests"}
        told = [tell(alice, 0.01, model=f"tool-{number}") for number in range(12)]
        assert [(each.status, each["matched"]) for each in told] == [(202, False)] * 12
        assert not alice.verify().differences
