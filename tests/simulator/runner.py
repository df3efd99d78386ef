"""Run many seeds of the specification or of a mutant."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

from .truth import Violation
from .world import World

STEPS = 1200
"""Steps of one schedule, before everything is healed."""


def survey(seeds: Iterable[int], counts: Tally[str]) -> list[str]:
    """Run the true specification; add what happened to `counts` and return a trace of each failing seed."""
    failures = []
    for seed in seeds:
        world = World(seed)
        try:
            world.play(STEPS)
        except Violation:
            again = World(seed, trace=True)
            try:
                again.play(STEPS)
            except Violation as found:
                failures.append(explain(again, found))
        counts.update(world.counts)
    return failures


def kill(mutant: str, seeds: int) -> tuple[int, str]:
    """Run a mutant until an invariant breaks: (seeds it took, the invariant), or the bound and ''."""
    for seed in range(seeds):
        try:
            World(seed, mutant).play(STEPS)
        except Violation as found:
            return seed + 1, str(found.args[0])
    return seeds, ""


def explain(world: World, found: Violation, lines: int = 80) -> str:
    """A readable account of a failing seed: the end of its schedule and the broken invariant."""
    trace = (world.trace or [])[-lines:]
    head = f"seed {world.seed} ({world.profile.name}) {world.bug}: {found.args[0]}"
    facts = "  ".join(f"{k}={v}" for k, v in found.args[1].items())
    again = f"python -m tests.simulator --trace {world.seed}" + (
        f" --mutant {world.bug}" if world.bug else ""
    )
    return "\n".join([head, f"  {facts}", *trace, head, f"  {facts}", f"  the whole schedule: {again}"])
