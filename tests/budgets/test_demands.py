"""Which budgets a call falls under, and what it needs from each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from budgets.domain.demands import (
    Attribution,
    Bound,
    Matcher,
    TooManyBudgets,
    counter_id_of,
    is_rate,
)
from budgets.domain.policy import EACH, Action, BudgetRule, Metric, Policy, Scope, WindowKind

NOW_MS = int(datetime(2026, 11, 22, 12, 30, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


def rule(number: int = 1, **changes: Any) -> BudgetRule:
    fields: dict[str, Any] = {
        "budget_id": UUID(int=number),
        "version": 1,
        "scope": Scope.CUSTOMER,
        "subject": EACH,
        "tag": None,
        "metric": Metric.USD,
        "window": WindowKind.DAY,
        "anchor_day": None,
        "limit": 10,
        "action": Action.BLOCK,
    }
    return BudgetRule(**(fields | changes))


def matcher(*rules: BudgetRule, time_zone: str = "UTC") -> Matcher:
    return Matcher(
        Policy(
            tenant_id=UUID(int=99),
            version=1,
            suspended=False,
            time_zone=time_zone,
            default_max_output_tokens=4096,
            unknown_model="refuse",
            keys=(),
            projects=("default",),
            suspended_customers=frozenset(),
            budgets=rules,
        )
    )


def call(**changes: Any) -> Attribution:
    fields: dict[str, Any] = {
        "project": "web",
        "customer": "acme",
        "user": "u1",
        "run": "r1",
        "plan": "free",
        "api_key": "key_1",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "tags": {"feature": "chat"},
    }
    return Attribution(**(fields | changes))


class TestPlaces:
    @pytest.mark.parametrize(
        ("scope", "subject"),
        [
            (Scope.PROJECT, "web"),
            (Scope.CUSTOMER, "acme"),
            (Scope.USER, "u1"),
            (Scope.RUN, "r1"),
            (Scope.PLAN, "free"),
            (Scope.API_KEY, "key_1"),
            (Scope.PROVIDER, "openai"),
            (Scope.MODEL, "gpt-4o-mini"),
        ],
    )
    def test_match_a_template_and_the_one_subject(self, scope: Scope, subject: str) -> None:
        for wanted in (EACH, subject):
            (place,) = matcher(rule(scope=scope, subject=wanted)).places(call(), now_ms=NOW_MS)
            assert place.subject == subject
        assert matcher(rule(scope=scope, subject="another")).places(call(), now_ms=NOW_MS) == []
        nobody = call(**{scope.value: ""})
        assert matcher(rule(scope=scope)).places(nobody, now_ms=NOW_MS) == []

    def test_of_a_tenant_match_every_call(self) -> None:
        (place,) = matcher(rule(scope=Scope.TENANT)).places(call(customer=""), now_ms=NOW_MS)
        assert place.subject == "tenant"

    def test_of_a_tag_match_its_value(self) -> None:
        each, one = (
            rule(scope=Scope.TAG, tag="feature"),
            rule(scope=Scope.TAG, tag="feature", subject="feature=chat"),
        )
        for wanted in (each, one):
            (place,) = matcher(wanted).places(call(), now_ms=NOW_MS)
            assert place.subject == "chat"
        assert matcher(one).places(call(tags={"feature": "search"}), now_ms=NOW_MS) == []
        assert matcher(each).places(call(tags={"other": "chat"}), now_ms=NOW_MS) == []

    def test_lie_in_the_window_of_now_in_the_budget_s_zone(self) -> None:
        (utc,) = matcher(rule()).places(call(), now_ms=NOW_MS)
        assert (utc.starts_ms, utc.ends_ms) == (NOW_MS - NOW_MS % DAY_MS, NOW_MS - NOW_MS % DAY_MS + DAY_MS)
        (tokyo,) = matcher(rule(), time_zone="Asia/Tokyo").places(call(), now_ms=NOW_MS)
        assert tokyo.starts_ms == utc.starts_ms - 9 * 3_600_000
        (own,) = matcher(rule(time_zone="Asia/Tokyo")).places(call(), now_ms=NOW_MS)
        assert (own.starts_ms, own.counter_id) == (tokyo.starts_ms, tokyo.counter_id)

    def test_move_on_when_their_window_ends(self) -> None:
        found = matcher(rule())
        (before,) = found.places(call(), now_ms=NOW_MS)
        assert found.places(call(), now_ms=before.ends_ms - 1) == [before]
        (after,) = found.places(call(), now_ms=before.ends_ms)
        assert after.starts_ms == before.ends_ms
        assert after.counter_id != before.counter_id
        # A clock that was set back belongs to the window before.
        assert found.places(call(), now_ms=NOW_MS) == [before]

    def test_without_an_end_never_move(self) -> None:
        found = matcher(rule(window=WindowKind.TOTAL))
        (place,) = found.places(call(), now_ms=NOW_MS)
        assert place.ends_ms == 0
        assert found.places(call(), now_ms=NOW_MS + 10_000 * DAY_MS) == [place]

    def test_put_blocking_budgets_first(self) -> None:
        rules = rule(1, action=Action.WARN), rule(2), rule(3, action=Action.WARN), rule(4)
        places = matcher(*rules).places(call(), now_ms=NOW_MS)
        assert [place.rule.budget_id.int for place in places] == [2, 4, 1, 3]

    def test_are_at_most_sixteen(self) -> None:
        assert len(matcher(*map(rule, range(16))).places(call(), now_ms=NOW_MS)) == 16
        with pytest.raises(TooManyBudgets, match="17 budgets; at most 16"):
            matcher(*map(rule, range(17))).places(call(), now_ms=NOW_MS)

    def test_that_do_not_concern_the_call_are_not_counted(self) -> None:
        others = [rule(n, subject=f"other-{n}") for n in range(100)]
        assert len(matcher(*others, rule(200)).places(call(), now_ms=NOW_MS)) == 1


class TestCounterId:
    def test_tells_budgets_subjects_and_windows_apart(self) -> None:
        found = {
            counter_id_of(budget_id=UUID(int=b), subject=s, starts_ms=start, ends_ms=end)
            for b in (1, 2)
            for s in ("a", "b", "a|1", "1|a")
            for start, end in ((0, 1), (0, 11), (1, 1), (10, 1))
        }
        assert len(found) == 32

    def test_is_the_same_for_everybody(self) -> None:
        known = counter_id_of(budget_id=UUID(int=1), subject="acme", starts_ms=0, ends_ms=0)
        assert known == UUID("a6b2cb7f-2f4b-3630-7a40-b795124dd495")


class TestBound:
    def test_is_told_in_the_unit_of_each_metric(self) -> None:
        bound = Bound(480_000, 1700)
        assert [bound.of(metric) for metric in (Metric.USD, Metric.TOKENS, Metric.REQUESTS)] == [
            480_000,
            1700,
            1,
        ]


class TestRate:
    def test_is_a_window_of_a_minute_alone(self) -> None:
        assert [kind for kind in WindowKind if is_rate(rule(window=kind))] == [WindowKind.MINUTE]
