"""A worker that goes on with one re-rating, so many calls a step, until nothing is left.

Says `ready` and waits for a line before it begins, so that whoever started several decides which one is first. Prints
how many calls each step was, and how much memory it takes, so that one knows when to kill it.
"""

from __future__ import annotations

import resource
import sys
import time
from uuid import UUID

import django

from noburn.kit.tenancy import span_in_this_process

PAUSE_SECONDS = 0.01


def main() -> None:
    """Works; `python -m tests.budgets.rerating.worker RERATING CALLS_A_STEP`."""
    django.setup()
    span_in_this_process()
    from budgets.models import Rerating, ReratingState
    from budgets.services import reratings
    from noburn.kit.clock import utc_now

    print("ready", flush=True)
    sys.stdin.readline()
    row, limit = Rerating.objects.get(pk=UUID(sys.argv[1])), int(sys.argv[2])
    while row.state in (ReratingState.PREVIEWING, ReratingState.APPLYING):
        if row.state == ReratingState.PREVIEWING:
            _, calls = reratings.preview_step(rerating_id=row.pk, now=utc_now(), limit=limit)
        else:
            _, calls = reratings.apply_step(rerating_id=row.pk, limit=limit)
        if calls:
            print(calls, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
        else:
            # Another one is at it.
            time.sleep(PAUSE_SECONDS)
        row.refresh_from_db()


if __name__ == "__main__":
    main()
