"""Run the simulator by hand: see the package's docstring."""

from __future__ import annotations

import argparse
import time
from collections import Counter as Tally

from .mutants import MUTANTS
from .runner import STEPS, explain, kill, survey
from .truth import Violation
from .world import World


def main() -> int:
    """Parse the arguments, run, report; 1 when the specification breaks or a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--mutant", default="", help=f"all, or one of: {', '.join(MUTANTS)}")
    parser.add_argument("--trace", type=int, help="print one seed's schedule")
    options = parser.parse_args()
    if options.mutant not in ("", "all", *MUTANTS):
        parser.error(f"no such mutant: {options.mutant}")
    if options.trace is not None:
        world = World(options.trace, options.mutant, trace=True)
        try:
            world.play(STEPS)
        except Violation as found:
            print(explain(world, found, lines=10_000))
            return 1
        print("\n".join(world.trace or []))
        return 0
    if options.mutant:
        survivors = 0
        for name in MUTANTS if options.mutant == "all" else [options.mutant]:
            started = time.process_time()
            seeds, why = kill(name, options.seeds)
            survivors += not why
            print(f"{name:30} {seeds:5} seeds {time.process_time() - started:6.1f} s  {why or 'SURVIVED'}")
        return 1 if survivors else 0
    counts: Tally[str] = Tally()
    started = time.process_time()
    failures = survey(range(options.first, options.first + options.seeds), counts)
    for what, number in sorted(counts.items()):
        print(f"{number:9} {what}")
    for text in failures[:1]:
        print(text)
    print(f"{options.seeds} seeds, {len(failures)} violations, {time.process_time() - started:.1f} s")
    return 1 if failures else 0


raise SystemExit(main())
