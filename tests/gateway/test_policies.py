"""Policies at the gateway: which model a call gets, what the log keeps of it, and what a simulation would have said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from noburn.kit import ids

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

TIERS = {"openai": {"small": "gpt-4o-mini", "big": "gpt-4.1"}}
BY_TASK = [
    {
        "name": "short strict JSON",
        "when": {"output": ["schema"], "task": ["extract"], "input_tokens": {"max": 4_000}},
        "then": {"action": "use_tier", "tier": "small"},
    },
    {
        "name": "long or many steps",
        "when": {"input_tokens": {"min": 50_000}},
        "then": {"action": "use_model", "model": "gpt-4.1"},
    },
    {"name": "no free plan at all", "when": {"plan": ["free"]}, "then": {"action": "block"}},
]


def policy(alice: Account, rules: list[dict[str, Any]], **fields: Any) -> Any:
    """Makes a policy; its row."""
    from budgets.services.routing import PolicyFields, create_policy

    chosen = PolicyFields(**{"name": "by task", "rules": rules, "tiers": TIERS, **fields})
    return create_policy(tenant_id=alice.tenant_id, policy=chosen, actor="test", now=datetime.now(UTC))


def ask(alice: Account, **fields: Any) -> Answer:
    """A pre-flight for gpt-4o."""
    return alice.place(**{"model": "gpt-4o", "input_tokens": 1_000, "max_output_tokens": 100, **fields})


EXTRACT = {"task": "extract", "output": "schema"}


def logged(alice: Account) -> list[dict[str, Any]]:
    """The tenant's decisions, oldest first, once they are written."""
    import json

    from budgets.queries.decisions import DecisionFilter, decisions

    alice.world.run(alice.world.app._plane.decisions.flush())
    rows = decisions(wanted=DecisionFilter(tenant_id=alice.tenant_id), before=None, limit=1_000)
    return [{**row, "routed": json.loads(row["routed"] or "null")} for row in reversed(rows)]


class TestRules:
    def test_choose_the_model_by_the_shape_of_the_task(self, alice: Account) -> None:
        made = policy(alice, BY_TASK)
        alice.budget("acme", "$10")
        short = ask(alice, **EXTRACT)
        assert short["model"] == "gpt-4o-mini"
        assert short["policy"] == {
            "id": ids.encode(ids.POLICY, made.pk),
            "rule": "short strict JSON",
            "action": "use_tier",
            "asked_model": "gpt-4o",
        }
        # 1,000 tokens at $0.15 a million and 100 at $0.60: it is held at the price of what is called.
        assert short["hold"]["amount_usd"] == "0.00021"
        assert ask(alice, input_tokens=60_000)["model"] == "gpt-4.1"
        plain = ask(alice)
        assert plain["model"] == "gpt-4o"
        assert "policy" not in plain.body
        blocked = ask(alice, subject={"customer": "acme", "plan": "free"})
        assert blocked.decision == "policy_blocked"
        assert blocked["policy"]["rule"] == "no free plan at all"

    def test_are_logged_with_what_they_decided(self, alice: Account) -> None:
        made = policy(alice, BY_TASK)
        alice.budget("acme", "$10")
        ask(alice, **EXTRACT)
        ask(alice)
        ask(alice, subject={"customer": "acme", "plan": "free"})
        by_rule, plain, blocked = logged(alice)
        assert by_rule["model"] == "gpt-4o-mini"
        assert by_rule["routed"] == {
            "asked": "gpt-4o",
            "policy": str(made.pk),
            "rule": "short strict JSON",
            **EXTRACT,
        }
        assert plain["routed"] is None
        assert (blocked["reason"], blocked["routed"]["rule"]) == ("policy_blocked", "no free plan at all")

    def test_hold_for_the_very_next_call_when_they_are_edited(self, alice: Account) -> None:
        from budgets.services.routing import archive_policy, edit_policy

        alice.budget("acme", "$10")
        assert ask(alice)["model"] == "gpt-4o"
        now = datetime.now(UTC)
        rule = {"name": "all", "then": {"action": "use_model", "model": "gpt-4o-mini"}}
        made = policy(alice, [rule])
        assert ask(alice)["model"] == "gpt-4o-mini"
        block = [{"name": "all", "then": {"action": "block"}}]
        edit_policy(
            tenant_id=alice.tenant_id, policy_id=made.pk, changes={"rules": block}, actor="test", now=now
        )
        assert ask(alice).decision == "policy_blocked"
        archive_policy(tenant_id=alice.tenant_id, policy_id=made.pk, actor="test", now=now)
        assert ask(alice)["model"] == "gpt-4o"

    def test_answer_a_replay_with_the_model_that_is_held(self, alice: Account) -> None:
        from budgets.services.routing import archive_policy

        alice.budget("acme", "$10")
        made = policy(alice, BY_TASK)
        key = uuid4().hex
        first = ask(alice, key=key, **EXTRACT)
        archive_policy(tenant_id=alice.tenant_id, policy_id=made.pk, actor="test", now=datetime.now(UTC))
        again = ask(alice, key=key, **EXTRACT)
        assert again["authorization"] == first["authorization"]
        assert again["model"] == "gpt-4o-mini"

    def test_may_look_at_how_much_of_the_budgets_is_used(self, alice: Account) -> None:
        rule = {
            "name": "save",
            "when": {"utilization": {"min": "0.5"}},
            "then": {"action": "use_model", "model": "gpt-4o-mini"},
        }
        policy(alice, [rule])
        alice.budget("acme", "$1")
        assert ask(alice)["model"] == "gpt-4o"
        assert alice.place("$0.60").decision == "allow"
        assert ask(alice)["model"] == "gpt-4o-mini"
        assert logged(alice)[-1]["routed"]["used_ppm"] >= 600_000

    def test_that_name_what_the_provider_does_not_sell_are_passed_over_and_told(self, alice: Account) -> None:
        claude = {"name": "claude", "then": {"action": "use_model", "model": "claude-haiku-4-5"}}
        policy(alice, [claude, {"name": "next", "then": {"action": "allow"}}])
        alice.budget("acme", "$10")
        answer = ask(alice)
        assert answer["model"] == "gpt-4o"
        assert answer["policy"]["rule"] == "next"
        assert any("'claude'" in warning for warning in answer["warnings"])


class TestDowngrade:
    def test_tries_the_budgets_cheaper_model_when_the_call_does_not_fit(self, alice: Account) -> None:
        budget = alice.budget("acme", "$0.001", action="downgrade", downgrade_model="gpt-4o-mini")
        answer = ask(alice)
        assert answer["model"] == "gpt-4o-mini"
        assert answer["downgrade"] == {"budget": ids.encode(ids.BUDGET, budget.pk), "asked_model": "gpt-4o"}
        assert alice.counter("acme", "acme")["spent"] == 0
        (entry,) = logged(alice)
        assert (entry["model"], entry["routed"]) == (
            "gpt-4o-mini",
            {"asked": "gpt-4o", "budget": str(budget.pk)},
        )

    def test_refuses_what_does_not_fit_with_that_either(self, alice: Account) -> None:
        alice.budget("acme", "$0.0001", action="downgrade", downgrade_model="gpt-4o-mini")
        answer = ask(alice)
        assert answer.decision == "budget_exceeded"
        assert answer["estimate_usd"] == "0.0035"

    def test_tries_each_model_once_where_budgets_name_each_others(self, alice: Account) -> None:
        alice.budget("acme", "$0.00001", action="downgrade", downgrade_model="gpt-4o-mini")
        alice.budget("all", "$0.00001", scope="tenant", action="downgrade", downgrade_model="gpt-4o")
        assert ask(alice).decision == "budget_exceeded"


class TestSeveralModels:
    def test_takes_the_first_that_fits(self, alice: Account) -> None:
        alice.budget("acme", "$0.001")
        answer = alice.place(
            models=["gpt-4o", "gpt-4o-mini", "gpt-4.1-nano"], input_tokens=1_000, max_output_tokens=100
        )
        assert answer["model"] == "gpt-4o-mini"
        assert [entry["model"] for entry in logged(alice)] == ["gpt-4o-mini"]

    def test_takes_the_first_that_rules_let_through(self, alice: Account) -> None:
        alice.budget("acme", "$10")
        policy(alice, [{"name": "not that", "when": {"model": ["gpt-4o"]}, "then": {"action": "block"}}])
        answer = ask(alice, models=["claude-haiku-4-5"])
        assert answer["model"] == "claude-haiku-4-5"

    def test_answers_for_the_first_where_none_fits(self, alice: Account) -> None:
        alice.budget("acme", "$0.000001")
        answer = ask(alice, models=["gpt-4o-mini"])
        assert answer.decision == "budget_exceeded"
        assert answer["estimate_usd"] == "0.0035"

    def test_needs_one(self, alice: Account) -> None:
        answer = alice.place(models=[], input_tokens=1)
        assert answer.status == 400
        assert answer.fields == {"model": "is missing"}


class TestSimulation:
    def test_says_what_enforcement_then_does(self, alice: Account) -> None:
        from budgets.services.routing import PolicyFields
        from budgets.services.routing_simulation import Wanted, simulate

        alice.budget("acme", "$10")
        calls: list[dict[str, Any]] = [
            {**EXTRACT},
            {},
            {"input_tokens": 60_000},
            {"subject": {"customer": "acme", "plan": "free"}},
            {**EXTRACT, "input_tokens": 5_000},
            {**EXTRACT, "model": "gpt-4o-mini"},
        ]
        before = [ask(alice, **call) for call in calls]
        logged(alice)
        now = datetime.now(UTC)
        draft = PolicyFields(name="by task", rules=BY_TASK, tiers=TIERS)
        span: dict[str, Any] = {"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)}
        wanted = Wanted(policy=draft, replaces=None, **span)
        found = simulate(tenant_id=alice.tenant_id, wanted=wanted, now=now)

        policy(alice, BY_TASK)
        after = [ask(alice, **call) for call in calls]
        changed = [
            new.decision != "allow" or new["model"] != old["model"]
            for old, new in zip(before, after, strict=True)
        ]
        assert (found.calls, found.changed, found.blocked) == (6, sum(changed), 1)
        assert found.unmatched == sum("policy" not in new.body for new in after)
        assert found.before_nano == sum(held(old) for old in before)
        assert found.after_nano == sum(held(new) for new in after)
        for rule in found.rules:
            ruled = [
                (old, new)
                for old, new in zip(before, after, strict=True)
                if new.body.get("policy", {}).get("rule") == rule.rule
            ]
            assert rule.calls == len(ruled)
            assert rule.before_nano == sum(held(old) for old, _ in ruled)
            assert rule.after_nano == sum(held(new) for _, new in ruled)
        assert [rule.calls for rule in found.rules] == [2, 1, 1]

        # What is decided now by the saved policy stays as it is, and comes undone where another stands in its place.
        logged(alice)
        nothing = PolicyFields(
            name="none", rules=[{"name": "all", "then": {"action": "allow"}}], tiers={}, position=0
        )
        (made,) = _policies(alice)
        again = simulate(
            tenant_id=alice.tenant_id,
            wanted=Wanted(policy=nothing, replaces=made.pk, limit=6, **span),
            now=now,
        )
        assert again.more
        assert again.changed == sum(changed)
        assert again.before_nano == found.after_nano
        # Of the blocked call no cost is in the log: it is reckoned anew.
        assert again.after_nano == found.before_nano


def _policies(alice: Account) -> list[Any]:
    from budgets.models import RoutingPolicy

    return list(RoutingPolicy.objects.filter(tenant_id=alice.tenant_id))


def held(answer: Answer) -> int:
    """What a pre-flight held, in nano-USD."""
    from tests.support.world import usd

    return usd(answer["hold"]["amount_usd"]) if answer.decision == "allow" else 0
