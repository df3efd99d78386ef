from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.domain.learning import PPM, SAMPLES_MIN, Learned, Sample, differs, learn, percentile
from budgets.domain.policy import LearnedRule
from budgets.models import Estimate, LearnedEstimate, PolicySnapshot
from budgets.services.learning import learn_tenant, learning_tenants
from noburn.kit import ids
from tests.support.api import Api
from tests.support.world import Account, World, usd

BOUND = 100_000


class TestLearn:
    def test_needs_enough_calls(self) -> None:
        calls = [Sample(100, 80, 10)] * (SAMPLES_MIN - 1)
        assert learn(calls) is None
        assert learn([*calls, Sample(100, 80, 10)]) == Learned(SAMPLES_MIN, (800_000,) * 4, (10,) * 4)

    @given(
        st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=50)
    )
    def test_never_holds_more_than_the_bound_and_covers_99_of_100_calls(
        self, calls: list[tuple[int, int, int]]
    ) -> None:
        samples = [Sample(bound, min(bound, used), output) for bound, used, output in calls]
        taught = learn(samples)
        assert taught is not None
        rule = LearnedRule("openai", "gpt", *taught.used)
        short = 0
        for sample in samples:
            held_in, held_out = rule.tokens(input_tokens=sample.input_bound, max_output_tokens=10**6)
            assert held_in <= sample.input_bound
            assert held_out <= 10**6
            short += held_in < sample.input_used or held_out < sample.output_used
        # One in a hundred of each of the two.
        assert short <= 2 * (len(samples) // 100 + 1)

    def test_takes_percentiles_by_nearest_rank(self) -> None:
        values = list(range(1, 101))
        assert [percentile(values, q) for q in (50, 90, 99)] == [50, 90, 99]
        assert percentile([7], 50) == 7

    def test_is_published_when_holds_would_change(self) -> None:
        old = Learned(50, (PPM,) * 4, (100,) * 4)
        assert not differs(old, Learned(900, (PPM - 100,) * 4, (101,) * 4))
        assert differs(old, Learned(50, (PPM,) * 4, (103,) * 4))
        assert differs(old, Learned(50, (PPM // 2,) * 4, (100,) * 4))
        assert differs(None, old)


def taught(alice: Account, world: World, *, calls: int = SAMPLES_MIN, used: int = 10) -> None:
    """Has calls of gpt-4o-mini settled that use far less than their bound, and learns from them."""
    for _ in range(calls):
        placed = alice.place(model="gpt-4o-mini", input_tokens=BOUND, max_output_tokens=1000, customer="past")
        usage = {"input_tokens": BOUND // 2, "output_tokens": used}
        assert alice.settle(placed, usage=usage).status == 200
    world.run(world.app._plane.decisions.flush())
    learn_tenant(tenant_id=alice.tenant_id, now=datetime.now(UTC))
    # A call is priced before it is told of a newer policy: the one after it goes by what was learned.
    alice.place(**call(), dry_run=True)


def call(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "input_tokens": BOUND, "max_output_tokens": 1000, **fields}


@pytest.mark.real_db
class TestLearnedBudget:
    def test_holds_what_calls_were_seen_to_use(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        alice.budget("hard", "$1", subject="acme")
        taught(alice, world)
        placed = alice.place(**call())
        left = {b["id"]: usd(b["remaining_usd"]) for b in placed["budgets"]}
        soft, hard = (left[ids.encode("bud", alice.budgets[n].pk)] for n in ("soft", "hard"))
        bound = usd(placed["hold"]["amount_usd"])
        assert hard == 10**9 - bound
        # Half of the input, and 10 tokens instead of 1,000, at gpt-4o-mini's prices.
        assert soft == 10**9 - (BOUND // 2 * 150 + 10 * 600)
        alice.settle(placed, usage={"input_tokens": BOUND, "output_tokens": 1000})
        assert alice.verify().differences == ()
        assert alice.counter("soft", "acme")["spent"] == alice.counter("hard", "acme")["spent"] == bound

    def test_lets_more_through_at_once_and_shows_what_that_risks(self, alice: Account, world: World) -> None:
        api = Api(secret=alice.key(["read"]).secret)
        alice.budget("soft", "$0.0155", subject="acme", estimate="learned")
        taught(alice, world)
        placed = [alice.place(**call()) for _ in range(3)]
        assert [p.decision for p in placed] == ["allow", "allow", "budget_busy"]
        budget = ids.encode("bud", alice.budgets["soft"].pk)
        bound, held = usd(placed[0]["hold"]["amount_usd"]), BOUND // 2 * 150 + 10 * 600
        assert api.get(f"/v1/budgets/{budget}/exposure").body == {
            "calls": 2,
            "held_usd": f"{2 * held / 1e9:f}".rstrip("0"),
            "exposure_usd": f"{2 * (bound - held) / 1e9:f}".rstrip("0"),
            "complete": True,
        }

    def test_presumes_what_it_held(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world)
        alice.expire(alice.place(**call()))
        world.sweep()
        assert alice.counter("soft", "acme")["spent"] == BOUND // 2 * 150 + 10 * 600
        assert alice.verify().differences == ()

    def test_leaves_ceilings_unknown_models_and_own_costs_alone(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world)
        other = alice.place(model="gpt-4o", input_tokens=1000, max_output_tokens=10)
        own = alice.place("$0.25")
        for placed in (other, own):
            (budget,) = placed["budgets"]
            held = usd(placed["hold"]["amount_usd"])
            before = 10**9 if placed is other else 10**9 - usd(other["hold"]["amount_usd"])
            assert usd(budget["remaining_usd"]) == before - held

    def test_goes_by_the_bound_until_there_is_something_to_learn_from(
        self, alice: Account, world: World
    ) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world, calls=3)
        placed = alice.place(**call())
        assert usd(placed["budgets"][0]["remaining_usd"]) == 10**9 - usd(placed["hold"]["amount_usd"])
        assert Api(secret=alice.key(["read"]).secret).get("/v1/estimates")["items"] == []


@pytest.mark.real_db
class TestLearning:
    def test_shows_what_it_learned(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world)
        (row,) = Api(secret=alice.key(["read"]).secret).all("/v1/estimates")
        assert (row["provider"], row["model"], row["samples"]) == ("openai", "gpt-4o-mini", SAMPLES_MIN)
        assert row["input_share"]["p99"] == "0.5"
        assert row["output_tokens"]["p50"] == 10

    def test_publishes_only_what_changes_holds(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world)
        version = PolicySnapshot.objects.get(pk=alice.tenant_id).version
        learn_tenant(tenant_id=alice.tenant_id, now=datetime.now(UTC))
        assert PolicySnapshot.objects.get(pk=alice.tenant_id).version == version

    def test_forgets_nothing_in_a_quiet_week(self, alice: Account, world: World) -> None:
        alice.budget("soft", "$1", subject="acme", estimate="learned")
        taught(alice, world)
        learn_tenant(tenant_id=alice.tenant_id, now=datetime.now(UTC) + timedelta(days=30))
        assert LearnedEstimate.objects.filter(tenant_id=alice.tenant_id).count() == 1

    def test_is_done_for_tenants_that_go_by_it_alone(self, alice: Account, world: World) -> None:
        alice.budget("hard", "$1", subject="acme")
        assert alice.tenant_id not in learning_tenants()
        alice.edit("hard", estimate=Estimate.LEARNED)
        assert alice.tenant_id in learning_tenants()
