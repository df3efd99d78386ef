"""Quotas: what each user or customer of one plan may use, counted as budgets are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.world import Account

pytestmark = pytest.mark.real_db


def place(alice: Account, user: str, plan: str | None = "free", amount: str = "$0.01") -> Answer:
    subject: dict[str, Any] = {"customer": "acme", "user": user, **({"plan": plan} if plan else {})}
    return alice.place(amount, subject=subject)


class TestQuota:
    def test_counts_the_calls_of_its_plan_for_each_user(self, alice: Account) -> None:
        quota = {"scope": "user", "subject": "*", "metric": "requests", "window": "month", "plan": "free"}
        alice.budget("free", 2, upgrade_to="pro", **quota)
        for _ in range(2):
            alice.settle(place(alice, "u1"), "$0.01")
        refused = place(alice, "u1")
        assert (refused["reason"], refused["plan"], refused["upgrade_suggested"]) == (
            "quota_exceeded",
            "free",
            "pro",
        )
        assert (refused["budget"]["plan"], refused["budget"]["limit_requests"]) == ("free", 2)
        assert refused["budget"]["resets_at"] is not None
        assert place(alice, "u2")["decision"] == "allow"
        # Whoever upgrades is under the quota of the other plan, if there is one.
        assert place(alice, "u1", "pro")["decision"] == "allow"
        assert place(alice, "u1", None)["decision"] == "allow"

    def test_suggests_nothing_where_nothing_is_configured(self, alice: Account) -> None:
        alice.budget("free", "$0.005", scope="user", subject="*", window="month", plan="free")
        refused = place(alice, "u1")
        assert (refused["reason"], refused["upgrade_suggested"]) == ("quota_exceeded", None)

    def test_has_overrides_as_any_budget(self, alice: Account) -> None:
        alice.budget("free", "$0.005", scope="user", subject="*", window="month", plan="free")
        alice.override("free", "u1", "$1")
        assert place(alice, "u1")["decision"] == "allow"
        assert place(alice, "u2")["decision"] == "deny"

    def test_begins_with_what_the_plan_s_calls_cost_so_far(self, alice: Account) -> None:
        for plan in ("free", "pro"):
            alice.settle(place(alice, "u1", plan), "$0.01")
        alice.budget("free", "$0.03", scope="user", subject="*", window="month", plan="free")
        answer = place(alice, "u1")
        assert [b["remaining_usd"] for b in answer["budgets"]] == ["0.01"]
        assert alice.verify().differences == ()

    def test_is_told_by_remaining(self, alice: Account) -> None:
        alice.budget("free", "$1", scope="user", subject="*", window="month", plan="free")
        told = alice.world.request("GET", "/v1/remaining?user=u1&plan=free", secret=alice.secret)
        assert [(b["plan"], b["remaining_usd"]) for b in told["budgets"]] == [("free", "1")]
        told = alice.world.request("GET", "/v1/remaining?user=u1&plan=pro", secret=alice.secret)
        assert told["budgets"] == []


class TestRules:
    def test_name_what_is_wrong(self) -> None:
        from budgets.services.budgets import NewBudget

        for fields, wrong in (
            ({"scope": "plan", "plan": "free"}, {"plan"}),
            ({"scope": "tag", "tag": "x", "plan": "free"}, {"plan"}),
            ({"scope": "user", "plan": "free", "upgrade_to": "free"}, {"upgrade_to"}),
            ({"scope": "user", "upgrade_to": "pro"}, {"upgrade_to"}),
            ({"scope": "user", "plan": "*"}, {"plan"}),
            ({"scope": "user", "plan": "free", "upgrade_to": "pro"}, set()),
        ):
            budget = NewBudget(window="month", limit=1, **fields)
            assert {error.field for error in budget.errors()} == wrong, fields
