"""A worker that kills itself at a step: `python -m tests.billing.push.victim WORK STEP TIMES`.

The settings come from the environment. TIMES is at which time of coming to the step it dies.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import datetime

import django

WORK = ("freeze", "push", "set_up", "events")


def main() -> None:
    """Does the work until it dies; ends with 0 when it never came to the step."""
    work, step, times, now = sys.argv[1], sys.argv[2], int(sys.argv[3]), datetime.fromisoformat(sys.argv[4])
    django.setup()
    from billing.services import (
        credit_notes,
        freezing,
        pushing,
        stripe_inbox,
        stripe_links,
        stripe_setup,
    )

    left = times

    def reached(name: str) -> None:
        nonlocal left
        left -= name == step
        if name == step and left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (credit_notes, freezing, pushing, stripe_inbox, stripe_links, stripe_setup):
        module.reached = reached  # type: ignore[attr-defined]
    steps = {
        "freeze": lambda: freezing.freeze_due(now=now),
        "push": lambda: pushing.push_batch(now=now),
        "set_up": lambda: stripe_setup.set_up_due(now=now) + stripe_links.link_due(now=now),
        "events": lambda: stripe_inbox.handle_batch(now=now),
    }
    for _ in range(100):
        if not steps[work]():
            break


if __name__ == "__main__":
    main()
