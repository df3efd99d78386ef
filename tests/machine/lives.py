"""Lives by weights, and by Hypothesis; what must have happened in them; and lives under an altered rule."""

from __future__ import annotations

import datetime
import random
from collections import Counter as Tally
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from psycopg.errors import CheckViolation

from tests.machine.mutants import REAL
from tests.machine.network import loading

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World

STEPS: Final = 100
KILLING_STEPS: Final = 120
KILLING_LIVES_MAX: Final = 80

MUST_HAPPEN: Final = (
    "placed",
    "budget_exceeded",
    "budget_busy",
    "presumed",
    "settled after presumed",
    "overruns",
    "messages lost",
    "answers lost",
    "messages late",
    "messages twice",
    "commits unanswered",
    "controllers interrupted",
    "planned closes",
    "times run out",
    "flushes",
    "restarts",
    "keys lost",
    "lost incarnations",
    "limits changed",
    "budgets replaced",
    "write-offs",
)
"""Lives in which one of these never happens prove nothing."""

MUST_HAPPEN_SOON: Final = (
    "placed",
    "budget_exceeded",
    "budget_busy",
    "presumed",
    "overruns",
    "messages lost",
    "answers lost",
    "messages late",
    "planned closes",
    "flushes",
    "restarts",
    "limits changed",
)
"""Of the short runs of `make test`."""

MUST_HAPPEN_AT_ONCE: Final = (
    "placed",
    "budget_exceeded",
    "budget_busy",
    "presumed",
    "messages lost",
    "answers lost",
    "messages late",
    "limits changed",
    "losses",
)
"""Of the few short examples that Hypothesis draws there; `losses` are those of whatever kind."""

LOSSES: Final = ("flush", "restart", "lose_a_counter", "cut_off", "close_epoch")

SEED: Final = datetime.date(2026, 11, 30).toordinal() * 1_000
"""Of the short runs, which must not fail somebody else's change; the long ones have another one every day."""

NEEDED_ON: Final = {
    **dict.fromkeys(
        (
            "any_row_shrinks",
            "apply_after_closed",
            "closed_branch_keeps_rest",
            "late_answers_count",
            "no_epoch_key",
            "no_tombstone",
            "tombstone_guesses",
            "retire_before_marking",
            "writeoff_without_waiting",
        ),
        "closes",
    ),
    **dict.fromkeys(
        (
            "load_not_fenced",
            "missing_key_recreated",
            "missing_not_locked",
            "no_epoch_literal",
            "renewal_creates",
            "scripts_loaded_by_anyone",
        ),
        "losses",
    ),
    **dict.fromkeys(
        (
            "load_increments",
            "no_seq_compare",
            "old_ack_counts",
            "shrink_before_ack",
            "shrink_bites_twice",
            "version_without_limit",
        ),
        "edits",
    ),
    "parent_free_negative_ignored": "overruns",
    **dict.fromkeys(("apply_without_hold", "late_settle_adds", "replay_carries_latest"), "late"),
}
"""Kinds of days on which the rule that a mutant alters is needed; the others die on any."""

OPENING_CALLS: Final = 6
SEEDS: Final = st.integers(0, 2**31)


def today() -> int:
    """A seed that is another one every day, and the same for whoever looks into today's failure."""
    return datetime.datetime.now(datetime.UTC).date().toordinal() * 1_000


class Broken(AssertionError):
    """An invariant broke in a life."""

    def __init__(self, seed: int, told: list[str], what: tuple[Any, ...]) -> None:
        super().__init__(f"seed {seed}, step {len(told)}: {what} after {told[-20:]}")
        self.step, self.what = len(told), str(what[0])


def live(
    world: World,
    other: GatewayApp,
    *,
    seed: int,
    steps: int,
    days: str | None = None,
    keeps_scripts: bool = False,
) -> Tally[str]:
    """One life by weights; what happened in it. Raises Broken."""
    from tests.machine.life import DAYS, Life
    from tests.simulator.truth import Violation

    chance = random.Random(seed)
    # One after the other, so that a few lives have all of them.
    days = days or list(DAYS)[seed % len(DAYS)]
    life = Life(world, other, chance, days=days, keeps_scripts=keeps_scripts)
    try:
        life.mirror.read()
        for _ in range(steps):
            life.step(chance)
        happened = life.happened()
        life.rest()
    except Violation as found:
        raise Broken(seed, life.told, found.args) from found
    except CheckViolation as found:
        raise Broken(seed, life.told, ("a constraint of the database refuses it", str(found))) from found
    finally:
        life.close()
    return happened + Tally({"lives": 1, "steps": steps})


def missing(counts: Tally[str], wanted: Iterable[str]) -> list[str]:
    """What should have happened and did not."""
    return [what for what in wanted if not counts[what]]


def machine(world: World, other: GatewayApp, counts: Tally[str]) -> type[RuleBasedStateMachine]:
    """A state machine whose rules are what may happen in a life.

    Hypothesis draws which, in what order, and a seed for what each does, so it can leave out what no failure needs.
    Every life begins with calls and most rules make some, or nothing would ever be refused.
    """
    from tests.machine.life import Life

    class Machine(RuleBasedStateMachine):
        life: Life | None = None

        def act(self, names: Iterable[str], seed: int) -> None:
            assert self.life is not None
            chance = random.Random(seed)
            for name in names:
                self.life.told.append(name)
                self.life.act(name, chance)

        @initialize(seed=SEEDS)
        def begins(self, seed: int) -> None:
            self.life = Life(world, other, random.Random(seed))
            self.life.mirror.read()
            # Without one budget that changes under its holds, six examples may have none.
            self.act([*["place"] * OPENING_CALLS, "edit", "place"], seed)

        @rule(seed=SEEDS, count=st.integers(1, 4))
        def calls(self, seed: int, count: int) -> None:
            self.act(["place"] * count, seed)

        @rule(seed=SEEDS, count=st.integers(1, 4))
        def is_served_and_calls(self, seed: int, count: int) -> None:
            world.recover()
            self.act(["place"] * count, seed)

        @rule(seed=SEEDS, name=st.sampled_from(("again", "with_a_wrong_clock")))
        def calls_otherwise(self, seed: int, name: str) -> None:
            self.act([name, "place"], seed)

        @rule(seed=SEEDS, count=st.integers(1, 4))
        def tells(self, seed: int, count: int) -> None:
            self.act(["resolve"] * count, seed)

        @rule(seed=SEEDS)
        def forgets(self, seed: int) -> None:
            self.act(["expire", "sweep"], seed)

        @rule(
            seed=SEEDS,
            names=st.lists(st.sampled_from(("deliver", "sweep", "extend")), min_size=1, max_size=3),
        )
        def goes_on(self, seed: int, names: list[str]) -> None:
            self.act(names, seed)

        @rule(seed=SEEDS, name=st.sampled_from(("edit", "edit", "replace_budget", "write_off")))
        def is_edited(self, seed: int, name: str) -> None:
            self.act([name, "place"], seed)

        @rule(seed=SEEDS, name=st.sampled_from(LOSSES))
        def is_hurt(self, seed: int, name: str) -> None:
            self.act(["save", "place", name, "recover"], seed)

        def teardown(self) -> None:
            if self.life is None:
                return
            try:
                hurt = sum(name in LOSSES for name in self.life.told)
                counts.update(self.life.happened())
                counts.update({"lives": 1, "steps": len(self.life.told), "losses": hurt})
                self.life.rest()
            finally:
                self.life.close()

    return Machine


def killed(world: World, other: GatewayApp, name: str) -> tuple[int, Broken] | None:
    """Lives under an altered rule until one of them breaks: its number and what broke. None if all are well."""
    altered: Any = nullcontext()
    if name in REAL:
        altered = REAL[name].applied(world)
    elif name == "scripts_loaded_by_anyone":
        altered = loading(world, other)
    with altered:
        for number in range(KILLING_LIVES_MAX):
            try:
                live(world, other, seed=number, steps=KILLING_STEPS, keeps_scripts=name == "no_epoch_literal")
            except Broken as found:
                return number + 1, found
    return None
