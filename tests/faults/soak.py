"""Random faults under load for as long as one likes, and what came of it: `python -m tests.faults.soak --minutes 10`.

With `--runs FILE` the run's figures are added to that file, of which report.py makes the table in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from tests.faults.faults import FAULTS, Fault
from tests.faults.harness import Harness

SETTLE_SECONDS = 30.0
"""How long faults go on before everything must come to rest and be right."""


def soak(harness: Harness, *, until: float, names: tuple[str, ...] = (), weights: bool = True) -> None:
    """Draws faults until a monotonic time; lets the checker speak every half minute. Raises AssertionError."""
    drawn: list[Fault] = [
        f for n, f in FAULTS.items() if n.startswith(names or "") and (f.weight or not weights)
    ]
    settled_at = time.monotonic()
    while time.monotonic() < until:
        fault = harness.chance.choices(drawn, [f.weight if weights else 1 for f in drawn])[0]
        harness.inject(fault)
        if time.monotonic() - settled_at > SETTLE_SECONDS:
            harness.settle_down()
            harness.load.go()
            settled_at = time.monotonic()
    harness.settle_down()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--only", action="append", default=[], help="faults whose names begin so; may be repeated"
    )
    parser.add_argument("--runs", type=Path)
    parser.add_argument(
        "--without-workers", action="store_true", help="sweeps by hand alone; for many cheap faults"
    )
    options = parser.parse_args()
    celery, traps = not options.without_workers, not options.without_workers
    with Harness(seed=options.seed, celery=celery, syscall_faults=traps) as harness:
        try:
            soak(harness, until=time.monotonic() + options.minutes * 60, names=tuple(options.only))
        except BaseException:
            print(f"seed {options.seed}: {dict(harness.injected)}")
            raise
        if options.runs:
            harness.save(options.runs)
        else:
            print(harness.told())


if __name__ == "__main__":
    main()
