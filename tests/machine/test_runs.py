"""Caps and stops of runs: random lives of a tree of runs on two gateways, and each rule altered, and caught.

A cap is a counter of the escrow, whose own mutants are the simulator's. What runs add is which counters a call falls
under, and that a gateway which knows less does not let a call of a stopped run through.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.machine.mutants import Mutant
from tests.support.asgi import Answer, send

if TYPE_CHECKING:
    from budgets.gateway.app import GatewayApp
    from tests.support.world import World

pytestmark = pytest.mark.real_db

CENTS: Final = {"top": 60, "mid": None, "low": 25, "leaf": None, "aside": 40}
"""Each run's cap in cents."""
STEPS: Final = {"top": 12, "mid": 5, "low": None, "leaf": None, "aside": None}
ABOVE: Final = {
    "top": ("top",),
    "mid": ("mid", "top"),
    "low": ("low", "mid", "top"),
    "leaf": ("leaf", "low", "mid", "top"),
    "aside": ("aside",),
}
EVENTS: Final = 40
LIVES: Final = 3
KILLING_LIVES_MAX: Final = 12
MUST_HAPPEN: Final = ("placed", "run_limit", "budget_busy", "run_stopped", "settled", "voided", "stopped")

MUTANTS: Final = {
    "caps_not_held": Mutant(
        "python:budgets.services.runs:Runs._keep",
        (("tuple(runs.places_of(tenant_id, record))", "()"),),
    ),
    "own_caps_alone": Mutant(
        "python:budgets.services.runs:Runs._keep",
        (
            (
                "tuple(runs.places_of(tenant_id, record))",
                "tuple(place for place in runs.places_of(tenant_id, record) if place.subject == record.run)",
            ),
        ),
    ),
    "older_record_goes_on": Mutant(
        "lua:guarded",
        (("if tonumber(run[1]) > tonumber(ARGV[3]) then return {'RUN', tonumber(run[1]), run[2]} end", ""),),
    ),
    "runs_below_not_told": Mutant(
        "python:budgets.services.runs:Runs.close",
        (("await self._tell(tenant_id, records)", "await self._tell(tenant_id, records[:1])"),),
    ),
}
"""Each rule that runs add, altered."""


class Tree:
    """Runs of one tenant, four of them above each other, and what is known to be true of them."""

    def __init__(self, world: World, other: GatewayApp) -> None:
        self.world, self.apps = world, (world.app, other)
        self.account = world.account("alice")
        self.counts: Tally[str] = Tally()
        self.cents: Tally[str] = Tally()
        self.calls: Tally[str] = Tally()
        self.open: list[tuple[str, int, Answer]] = []
        self.over: set[str] = set()
        for run, line in ABOVE.items():
            caps: dict[str, Any] = {}
            if (cents := CENTS[run]) is not None:
                caps["usd"] = f"0.{cents:02d}"
            if (steps := STEPS[run]) is not None:
                caps["steps"] = steps
            parent = {"parent": line[1]} if len(line) > 1 else {}
            assert self.said(world.app, "/v1/runs", {"run": run, "caps": caps, **parent}).status == 200

    def said(self, app: GatewayApp, path: str, body: dict[str, Any]) -> Answer:
        """What a gateway answers."""
        asking = send(app, "POST", path, body=body, idempotency_key="new", secret=self.account.secret)
        answer: Answer = self.world.run(asking)
        return answer

    def live(self, chance: random.Random) -> str | None:
        """Lets something happen, time and again; returns what was broken."""
        for _ in range(EVENTS):
            broken = self._step(chance)
            if broken is not None:
                return broken
        return None

    def _step(self, chance: random.Random) -> str | None:
        app, run = chance.choice(self.apps), chance.choice(list(ABOVE))
        what = chance.random()
        if what < 0.04:
            assert self.said(app, f"/v1/runs/{run}/stop", {}).status == 200
            self.over |= {each for each, line in ABOVE.items() if run in line}
            self.counts["stopped"] += 1
        elif what < 0.35 and self.open:
            self._resolve(app, chance)
        else:
            return self._call(app, run, chance.randint(1, 15))
        return None

    def _resolve(self, app: GatewayApp, chance: random.Random) -> None:
        run, held, placed = self.open.pop(chance.randrange(len(self.open)))
        used = chance.randint(0, held)
        authorization = {"authorization": placed["authorization"]}
        if chance.random() < 0.2:
            assert self.said(app, "/v1/void", authorization).status == 200
            used, steps = 0, 1
            self.counts["voided"] += 1
        else:
            settlement = {**authorization, "usage": None, "cost_usd": f"0.{used:02d}"}
            assert self.said(app, "/v1/settle", settlement).status == 200
            steps = 0
            self.counts["settled"] += 1
        for each in ABOVE[run]:
            self.cents[each] -= held - used
            self.calls[each] -= steps

    def _call(self, app: GatewayApp, run: str, cents: int) -> str | None:
        answer = self.said(app, "/v1/preflight", self.account.call(f"0.{cents:02d}", subject={"run": run}))
        if answer["decision"] != "allow":
            self.counts[answer["reason"]] += 1
            return None
        self.counts["placed"] += 1
        self.open.append((run, cents, answer))
        if run in self.over:
            return f"a call of {run} was let through although it is stopped"
        for each in ABOVE[run]:
            self.cents[each] += cents
            self.calls[each] += 1
            if self.cents[each] > (CENTS[each] or self.cents[each]):
                return f"{each} may spend {CENTS[each]} cents, and {self.cents[each]} are held or spent"
            if self.calls[each] > (STEPS[each] or self.calls[each]):
                return f"{each} may make {STEPS[each]} calls, and made {self.calls[each]}"
        return None


class TestRuns:
    def test_keep_to_their_caps_and_stay_stopped(self, world: World, other: GatewayApp) -> None:
        counts: Tally[str] = Tally()
        for seed in range(LIVES):
            tree = Tree(world, other)
            assert tree.live(random.Random(seed)) is None
            assert tree.account.verify().differences == ()
            counts += tree.counts
        assert not [what for what in MUST_HAPPEN if not counts[what]], counts

    def test_notice_each_rule_that_is_altered(self, world: World, other: GatewayApp) -> None:
        survived = []
        for name, mutant in MUTANTS.items():
            with mutant.applied(world):
                found = (Tree(world, other).live(random.Random(seed)) for seed in range(KILLING_LIVES_MAX))
                if all(broken is None for broken in found):
                    survived.append(name)
        assert survived == []
