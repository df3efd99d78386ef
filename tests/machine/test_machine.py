"""Random lives over real servers: by Hypothesis, which shortens what fails, and by weights, which find what is rare."""

from __future__ import annotations

import datetime
import random
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.machine.mutants import AROUND, MODEL_ALONE, REAL
from tests.simulator.mutants import MUTANTS

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World

pytestmark = pytest.mark.real_db

STEPS = 100
KILLING_STEPS = 120
KILLING_LIVES_MAX = 40
QUICK_MUTANTS = ("no_valid_until", "draws_from_parent", "late_settle_adds", "held_is_spent")
MUST_HAPPEN = (
    "placed",
    "budget_exceeded",
    "budget_busy",
    "messages lost",
    "answers lost",
    "messages late",
    "messages twice",
    "commits unanswered",
    "controllers interrupted",
    "planned closes",
    "flushes",
    "restarts",
    "limits changed",
    "overruns",
)


SEED = datetime.date(2026, 11, 30).toordinal() * 1_000
"""Of the short runs, which must not fail somebody else's change; the long ones have another one every day."""


def today() -> int:
    """A seed that is another one every day, and the same for whoever looks into today's failure."""
    return datetime.datetime.now(datetime.UTC).date().toordinal() * 1_000


def lives(
    world: World, other: GatewayApp, *, first: int, count: int, steps: int, keeps_scripts: bool = False
) -> Tally[str]:
    """Lives by weights; what happened in all of them. Raises AssertionError with the seed and the steps before it."""
    from tests.machine.life import Life
    from tests.simulator.truth import Violation

    counts: Tally[str] = Tally()
    for number in range(first, first + count):
        chance = random.Random(number)
        life = Life(world, other, chance, keeps_scripts=keeps_scripts)
        try:
            for _ in range(steps):
                life.step(chance)
            life.rest()
        except Violation as found:
            raise AssertionError(
                f"seed {number}, step {len(life.told)}: {found.args} after {life.told[-20:]}"
            ) from found
        finally:
            life.close()
        counts.update(life.counts)
        counts.update(life.network.counts)
        counts["steps"] += steps
    return counts


def happened(counts: Tally[str], record_property: Callable[[str, object], None]) -> None:
    """Lives in which nothing went wrong prove nothing."""
    record_property("machine_counts", dict(counts))
    assert not [what for what in MUST_HAPPEN if not counts[what]], counts


class TestLivesByWeights:
    @pytest.mark.soak
    def test_keep_every_invariant(
        self, world: World, other: GatewayApp, record_property: Callable[[str, object], None]
    ) -> None:
        happened(lives(world, other, first=SEED, count=4, steps=STEPS), record_property)

    @pytest.mark.soak
    def test_keep_every_invariant_for_long(
        self, world: World, other: GatewayApp, record_property: Callable[[str, object], None]
    ) -> None:
        happened(lives(world, other, first=today() + 100, count=60, steps=STEPS), record_property)


def machine(world: World, other: GatewayApp, counts: Tally[str]) -> type[RuleBasedStateMachine]:
    """A state machine whose rules are what may happen in a life; calls and settlements are several of them."""
    from tests.machine.life import WEIGHTS, Life

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.life = Life(world, other, random.Random(0))

        def teardown(self) -> None:
            try:
                self.life.rest()
            finally:
                self.life.close()
                counts.update(self.life.counts)
                counts.update(self.life.network.counts)

    def acting(name: str) -> Any:
        def act(self: Any, chance: random.Random) -> None:
            self.life.act(name, chance)

        act.__name__ = act.__qualname__ = name
        return rule(chance=st.randoms(use_true_random=False))(act)

    for name, weight in WEIGHTS.items():
        for number in range(1 + weight // 15):
            setattr(Machine, f"{name}_{number}", acting(name))
    return Machine


class TestStateMachine:
    def run(
        self,
        world: World,
        other: GatewayApp,
        *,
        seed: int,
        examples: int,
        steps: int,
        phases: Sequence[Phase],
    ) -> None:
        print(f"seed {seed}")
        counts: Tally[str] = Tally()
        made = machine(world, other, counts)
        checked = seeded(seed)(made)
        run_state_machine_as_test(
            checked,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=phases,
            ),
        )
        assert counts["budget_exceeded"] + counts["budget_busy"], counts
        assert counts["messages lost"] + counts["answers lost"] + counts["messages late"], counts

    @pytest.mark.soak
    def test_keeps_every_invariant_for_long(self, world: World, other: GatewayApp) -> None:
        self.run(world, other, seed=today(), examples=60, steps=60, phases=[Phase.generate, Phase.shrink])


class TestMutants:
    def test_of_the_simulator_are_each_run_here_or_said_to_have_no_counterpart(self) -> None:
        assert sorted(MUTANTS) == sorted([*REAL, *AROUND, *MODEL_ALONE])

    @pytest.mark.soak
    @pytest.mark.parametrize("name", QUICK_MUTANTS)
    def test_are_killed(
        self, world: World, other: GatewayApp, name: str, record_property: Callable[[str, object], None]
    ) -> None:
        self.kill(world, other, name, record_property)

    @pytest.mark.soak
    @pytest.mark.parametrize("name", sorted([*REAL, *AROUND]))
    def test_are_all_killed(
        self, world: World, other: GatewayApp, name: str, record_property: Callable[[str, object], None]
    ) -> None:
        self.kill(world, other, name, record_property)

    def kill(
        self, world: World, other: GatewayApp, name: str, record_property: Callable[[str, object], None]
    ) -> None:
        """Lives under an altered rule, until one of them breaks."""
        from contextlib import nullcontext

        from tests.machine.network import loading

        altered: Any = nullcontext()
        if name in REAL:
            altered = REAL[name].applied(world)
        elif name == "scripts_loaded_by_anyone":
            altered = loading(world, other)
        with altered:
            for seed in range(KILLING_LIVES_MAX):
                try:
                    lives(
                        world,
                        other,
                        first=seed,
                        count=1,
                        steps=KILLING_STEPS,
                        keeps_scripts=name == "no_epoch_literal",
                    )
                except AssertionError as found:
                    print(f"killed {name} in life {seed + 1}: {str(found)[:100]}")
                    record_property("machine_mutant", {name: seed + 1})
                    return
        raise AssertionError(f"{name} survived {KILLING_LIVES_MAX} lives of {KILLING_STEPS} steps")
