"""Rules in order: what each condition matches, and that the first rule that matches decides."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.domain.routing import (
    Decided,
    Hours,
    NeedsUtilization,
    NoRule,
    Outcome,
    RoutingPolicy,
    Rule,
    Shape,
    Span,
    decide,
    matches,
    used_ppm,
)
from budgets.domain.routing_rules import compiled, policy_errors

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)  # A Monday.
POLICY, OTHER = UUID(int=1), UUID(int=2)
MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1")


def call(**fields: Any) -> Shape:
    given_ = {"provider": "openai", "model": "gpt-4o", "input_tokens": 100, "max_output_tokens": 500}
    return Shape(**{**given_, **fields})


def decided(*rules: Rule, asked: Shape | None = None, **options: Any) -> Decided | NoRule:
    tiers = (("openai", "gpt-4o-mini", "gpt-4.1"),)
    chosen: dict[str, Any] = {"at": NOON, "zone": "UTC", "utilization_ppm": None, **options}
    return decide(
        [RoutingPolicy(POLICY, rules, tiers)], asked or call(), sells=lambda model: model in MODELS, **chosen
    )


class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "fields", "holds"),
        [
            ({}, {}, True),
            ({"providers": ("openai",)}, {}, True),
            ({"providers": ("anthropic",)}, {}, False),
            ({"models": ("gpt-4o",)}, {}, True),
            ({"models": ("gpt-4o",)}, {"model": "gpt-4o-mini"}, False),
            ({"models": ("gpt-4*",)}, {"model": "gpt-4o-mini"}, True),
            ({"models": ("o3", "gpt-4o")}, {}, True),
            ({"tasks": ("extract",)}, {"task": "extract"}, True),
            ({"tasks": ("extract",)}, {}, False),
            ({"tasks": ("*",)}, {}, False),
            ({"tasks": ("*",)}, {"task": "x"}, True),
            ({"outputs": ("schema",)}, {"output": "json"}, False),
            ({"outputs": ("schema", "json")}, {"output": "json"}, True),
            ({"plans": ("free",)}, {"plan": "free"}, True),
            ({"customers": ("acme",)}, {"customer": "globex"}, False),
            ({"projects": ("web",)}, {"project": "web"}, True),
            ({"tags": (("team", ("blue",)),)}, {"tags": {"team": "blue", "x": "y"}}, True),
            ({"tags": (("team", ("blue",)),)}, {"tags": {"team": "red"}}, False),
            ({"tags": (("team", ("blue",)), ("x", ("*",)))}, {"tags": {"team": "blue"}}, False),
            ({"input_tokens": Span(None, 100)}, {}, True),
            ({"input_tokens": Span(None, 99)}, {}, False),
            ({"input_tokens": Span(100, None)}, {}, True),
            ({"input_tokens": Span(101, 200)}, {}, False),
            ({"max_output_tokens": Span(500, 500)}, {}, True),
            ({"steps": Span(3, None)}, {"steps": 3}, True),
            ({"steps": Span(0, None)}, {}, False),
            ({"providers": ("openai",), "plans": ("free",)}, {}, False),
        ],
    )
    def test_hold(self, condition: dict[str, Any], fields: dict[str, Any], holds: bool) -> None:
        rule = Rule("r", Outcome.ALLOW, **condition)
        assert matches(rule, call(**fields), local=NOON, utilization_ppm=None) is holds

    @pytest.mark.parametrize(
        ("hours", "at", "holds"),
        [
            (Hours((), 540, 1020), "2026-11-30T09:00", True),
            (Hours((), 540, 1020), "2026-11-30T17:00", False),
            (Hours((5, 6)), "2026-11-30T12:00", False),
            (Hours((0,)), "2026-11-30T12:00", True),
            (Hours((), 1320, 360), "2026-11-30T23:00", True),
            (Hours((), 1320, 360), "2026-11-30T05:59", True),
            (Hours((), 1320, 360), "2026-11-30T06:00", False),
            # The small hours of Tuesday belong to Monday's night.
            (Hours((0,), 1320, 360), "2026-12-01T05:00", True),
            (Hours((1,), 1320, 360), "2026-12-01T05:00", False),
            (Hours((0,), 1320, 360), "2026-11-30T05:00", False),
        ],
    )
    def test_hold_by_the_hour(self, hours: Hours, at: str, holds: bool) -> None:
        assert hours.holds(datetime.fromisoformat(at)) is holds

    def test_are_of_the_policys_time_zone_or_else_of_the_tenants(self) -> None:
        morning = Rule("r", Outcome.BLOCK, hours=Hours((), 13 * 60, 14 * 60))
        assert isinstance(decided(morning), NoRule)
        assert isinstance(decided(morning, zone="Europe/Berlin"), Decided)
        policy = RoutingPolicy(POLICY, (morning,), (), "Europe/Berlin")
        found = decide([policy], call(), at=NOON, zone="UTC", utilization_ppm=None, sells=lambda _: True)
        assert isinstance(found, Decided)

    def test_ask_for_utilization_when_nothing_else_is_left_to_look_at(self) -> None:
        rule = Rule("r", Outcome.BLOCK, providers=("openai",), utilization_ppm=Span(800_000, None))
        with pytest.raises(NeedsUtilization):
            decided(rule)
        assert isinstance(decided(rule, utilization_ppm=800_000), Decided)
        assert isinstance(decided(rule, utilization_ppm=799_999), NoRule)
        assert isinstance(decided(rule, asked=call(provider="anthropic")), NoRule)
        assert isinstance(decided(Rule("first", Outcome.ALLOW), rule), Decided)

    @pytest.mark.parametrize(
        ("limit", "remaining", "ppm"),
        [(100, 100, 0), (100, 20, 800_000), (100, -5, 1_050_000), (0, 0, 1_000_000)],
    )
    def test_know_how_much_of_a_budget_is_used(self, limit: int, remaining: int, ppm: int) -> None:
        assert used_ppm(limit, remaining) == ppm


class TestOutcomes:
    def test_is_the_model_that_a_rule_names(self) -> None:
        found = decided(Rule("cheap", Outcome.USE_MODEL, "gpt-4o-mini"))
        assert found == Decided(POLICY, "cheap", Outcome.USE_MODEL, "gpt-4o-mini")

    @pytest.mark.parametrize(("tier", "model"), [("small", "gpt-4o-mini"), ("big", "gpt-4.1")])
    def test_is_the_model_of_a_tier_at_the_calls_provider(self, tier: str, model: str) -> None:
        found = decided(Rule("t", Outcome.USE_TIER, tier))
        assert isinstance(found, Decided)
        assert found.model == model

    def test_never_changes_the_provider(self) -> None:
        claude = Rule("claude", Outcome.USE_MODEL, "claude-haiku-4-5")
        found = decided(claude, Rule("next", Outcome.BLOCK))
        assert found == Decided(POLICY, "next", Outcome.BLOCK, "gpt-4o", ("claude",))
        assert decided(claude) == NoRule(("claude",))
        no_tier = decided(Rule("t", Outcome.USE_TIER, "small"), asked=call(provider="anthropic"))
        assert no_tier == NoRule(("t",))

    def test_is_the_model_asked_for_where_a_rule_only_allows_or_names_it(self) -> None:
        for rule in (Rule("r", Outcome.ALLOW), Rule("r", Outcome.USE_MODEL, "gpt-4o")):
            found = decided(rule)
            assert isinstance(found, Decided)
            assert found.model == "gpt-4o"


RULES = st.builds(
    Rule,
    name=st.just("r"),
    then=st.sampled_from([Outcome.ALLOW, Outcome.BLOCK]),
    models=st.sampled_from([(), ("gpt-4o",), ("gpt*",), ("o3",)]),
    plans=st.sampled_from([(), ("free",), ("pro",)]),
    input_tokens=st.sampled_from([None, Span(0, 50), Span(50, None)]),
    utilization_ppm=st.sampled_from([None, Span(500_000, None)]),
)
CALLS = st.builds(
    call,
    model=st.sampled_from(MODELS),
    plan=st.sampled_from(["", "free", "pro"]),
    input_tokens=st.integers(0, 100),
)


class TestOrder:
    @given(
        rules=st.lists(RULES, max_size=12), split=st.integers(0, 12), asked=CALLS, used=st.integers(0, 10**6)
    )
    def test_lets_the_first_that_matches_decide_however_rules_are_spread_over_policies(
        self, rules: list[Rule], split: int, asked: Shape, used: int
    ) -> None:
        named = [
            Rule(f"rule {n}", *[getattr(rule, f) for f in Rule.__struct_fields__[1:]])
            for n, rule in enumerate(rules)
        ]
        policies = [RoutingPolicy(POLICY, tuple(named[:split])), RoutingPolicy(OTHER, tuple(named[split:]))]
        found = decide(policies, asked, at=NOON, zone="UTC", utilization_ppm=used, sells=lambda _: True)
        first = next((rule for rule in named if matches(rule, asked, local=NOON, utilization_ppm=used)), None)
        if first is None:
            assert found == NoRule()
        else:
            assert isinstance(found, Decided)
            assert (found.rule, found.then) == (first.name, first.then)
            assert found.policy_id == (POLICY if first in named[:split] else OTHER)

    @given(rules=st.lists(RULES, min_size=1, max_size=6), asked=CALLS)
    def test_is_not_changed_by_rules_behind_the_one_that_decides(
        self, rules: list[Rule], asked: Shape
    ) -> None:
        def told(rules: list[Rule]) -> Decided | NoRule:
            return decided(*rules, asked=asked, utilization_ppm=600_000)

        found = told(rules)
        if isinstance(found, Decided):
            assert told([*rules, Rule("behind", Outcome.BLOCK)]) == found
        else:
            assert told([*rules, Rule("behind", Outcome.BLOCK)]) != found


THEN = {"action": "allow"}


class TestMistakes:
    @pytest.mark.parametrize(
        ("rule", "field"),
        [
            ({"name": "a", "when": {"model": ["g*t"]}, "then": THEN}, "rules[0].when.model"),
            ({"name": "a", "when": {"input_tokens": {}}, "then": THEN}, "rules[0].when.input_tokens"),
            ({"name": "a", "when": {"steps": {"min": 2, "max": 1}}, "then": THEN}, "rules[0].when.steps"),
            (
                {"name": "a", "when": {"utilization": {"min": "0.9", "max": "0.1"}}, "then": THEN},
                "rules[0].when.utilization",
            ),
            ({"name": "a", "when": {"time": {"from": "09:00"}}, "then": THEN}, "rules[0].when.time"),
            (
                {"name": "a", "when": {"time": {"from": "09:00", "to": "09:00"}}, "then": THEN},
                "rules[0].when.time",
            ),
            ({"name": "a", "when": {"time": {}}, "then": THEN}, "rules[0].when.time"),
            ({"name": "a", "then": {"action": "use_model"}}, "rules[0].then.model"),
            ({"name": "a", "then": {"action": "allow", "model": "x"}}, "rules[0].then.model"),
            ({"name": "a", "then": {"action": "use_tier"}}, "rules[0].then.tier"),
            ({"name": "a", "then": {"action": "use_tier", "tier": "big"}}, "rules[0].then.tier"),
        ],
    )
    def test_are_told_by_their_field(self, rule: dict[str, Any], field: str) -> None:
        errors = policy_errors(name="p", rules=[rule], tiers={"openai": {"small": "x"}}, time_zone=None)
        assert [error.field for error in errors] == [field]

    def test_are_told_all_at_once(self) -> None:
        twice = [{"name": "a", "then": THEN}] * 2
        errors = policy_errors(name=" ", rules=twice, tiers={}, time_zone="Moon")
        assert [error.field for error in errors] == ["name", "time_zone", "rules[1].name"]

    def test_are_not_in_what_is_compiled(self) -> None:
        rule = {
            "name": "a",
            "when": {
                "model": ["gpt*"],
                "tags": {"b": ["1"], "a": ["2", "3"]},
                "time": {"days": ["sat"], "from": "22:00", "to": "24:00"},
                "utilization": {"min": "0.8"},
                "input_tokens": {"max": 7},
            },
            "then": {"action": "use_tier", "tier": "small"},
        }
        found = compiled(policy_id=POLICY, rules=[rule], tiers={"openai": {"small": "x"}}, time_zone="UTC")
        expected = Rule(
            "a",
            Outcome.USE_TIER,
            "small",
            models=("gpt*",),
            tags=(("a", ("2", "3")), ("b", ("1",))),
            hours=Hours((5,), 1320, 1440),
            utilization_ppm=Span(800_000, None),
            input_tokens=Span(None, 7),
        )
        assert found == RoutingPolicy(POLICY, (expected,), (("openai", "x", ""),), "UTC")
