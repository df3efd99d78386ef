"""A worker that rolls up without a pause until its standard input ends, then until nothing is left.

Prints how many entries it took, a line a step, so that whoever started it knows when to kill it.
"""

from __future__ import annotations

import select
import sys

import django

from noburn.kit.tenancy import span_in_this_process

PAUSE_SECONDS = 0.02


def main() -> None:
    """Rolls up; `python -m tests.budgets.metering.roller ENTRIES_A_STEP`."""
    django.setup()
    span_in_this_process()
    from budgets.services import metering
    from noburn.kit.clock import utc_now

    ended = False
    while True:
        done = metering.roll(now=utc_now(), step_entries=int(sys.argv[1]), steps_max=1)
        if done.entries:
            print(done.entries, flush=True)
            continue
        if ended and not done.busy:
            return
        # The pause of somebody who listens: the end of the input cuts it short.
        ended = ended or bool(select.select([sys.stdin], [], [], PAUSE_SECONDS)[0] and not sys.stdin.read(1))


if __name__ == "__main__":
    main()
