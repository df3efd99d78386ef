"""Random lives over real servers: by weights, which find what is rare, and by Hypothesis, which shortens what fails."""

from __future__ import annotations

import os
import time
from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis.stateful import run_state_machine_as_test

from tests.machine import report
from tests.machine.lives import (
    KILLING_LIVES_MAX,
    KILLING_STEPS,
    MUST_HAPPEN,
    MUST_HAPPEN_AT_ONCE,
    MUST_HAPPEN_SOON,
    SEED,
    STEPS,
    killed,
    live,
    machine,
    missing,
    today,
)
from tests.machine.mutants import AROUND, MODEL_ALONE, REAL, WITHOUT_EFFECT
from tests.simulator.mutants import MUTANTS

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World

pytestmark = pytest.mark.real_db

QUICK_LIVES: Final = 2
QUICK_LIVES_MAX: Final = 8
LONG_LIVES: Final = 60
QUICK_MUTANTS: Final = (
    "released_on_close",
    "load_increments",
    "draws_from_parent",
    "duplicate_posts_twice",
    "sent_before_recorded",
)


class TestLivesByWeights:
    def test_keep_every_invariant(self, world: World, other: GatewayApp) -> None:
        """A few; more only where a draw left out what must happen."""
        counts: Tally[str] = Tally()
        for number in range(QUICK_LIVES_MAX):
            counts += live(world, other, seed=SEED + number, steps=STEPS)
            if number + 1 >= QUICK_LIVES and not missing(counts, MUST_HAPPEN_SOON):
                break
        assert not missing(counts, MUST_HAPPEN_SOON), counts

    @pytest.mark.soak
    def test_keep_every_invariant_for_long(self, world: World, other: GatewayApp) -> None:
        counts: Tally[str] = Tally()
        for number in range(LONG_LIVES):
            counts += live(world, other, seed=today() + 100 + number, steps=STEPS)
        print(dict(counts))
        assert not missing(counts, MUST_HAPPEN), counts


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
        must: Sequence[str],
    ) -> None:
        print(f"seed {seed}")
        counts: Tally[str] = Tally()
        checked = seeded(seed)(machine(world, other, counts))
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
        print(dict(counts))
        assert not missing(counts, must), counts

    def test_keeps_every_invariant(self, world: World, other: GatewayApp) -> None:
        self.run(
            world, other, seed=SEED, examples=6, steps=12, phases=[Phase.generate], must=MUST_HAPPEN_AT_ONCE
        )

    @pytest.mark.soak
    def test_keeps_every_invariant_for_long(self, world: World, other: GatewayApp) -> None:
        self.run(
            world,
            other,
            seed=today(),
            examples=60,
            steps=50,
            phases=[Phase.generate, Phase.shrink],
            must=MUST_HAPPEN,
        )


class TestMutants:
    def test_of_the_simulator_are_each_run_here_or_said_to_have_no_counterpart(self) -> None:
        assert sorted(MUTANTS) == sorted([*REAL, *AROUND, *WITHOUT_EFFECT, *MODEL_ALONE])

    def test_are_told_of_in_the_docs_as_they_were_killed(self) -> None:
        text = report.PAGE.read_text()
        assert report.page(text, report.tables(report.runs())) == text, "run: python -m tests.machine.report"
        assert {run["mutant"] for run in report.latest(report.runs())} <= {*REAL, *AROUND}

    @pytest.mark.parametrize("name", QUICK_MUTANTS)
    def test_are_killed(self, world: World, other: GatewayApp, name: str) -> None:
        assert killed(world, other, name), name

    @pytest.mark.soak
    @pytest.mark.parametrize("name", sorted([*REAL, *AROUND]))
    def test_are_all_killed(self, world: World, other: GatewayApp, name: str) -> None:
        found = killed(world, other, name)
        assert found, f"{name} survived {KILLING_LIVES_MAX} lives of {KILLING_STEPS} steps"
        number, broken = found
        print(f"killed {name} in life {number}, step {broken.step}: {broken.what}")
        if runs := os.environ.get("NOBURN_MUTANT_RUNS"):
            told = {
                "mutant": name,
                "life": number,
                "step": broken.step,
                "broke": broken.what,
                "at": time.strftime("%Y-%m-%d", time.gmtime()),
            }
            report.add(Path(runs), told)
