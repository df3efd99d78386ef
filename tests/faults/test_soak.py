"""`make soak`: mixed load and random faults for SOAK_MINUTES, and the counts at the end."""

from __future__ import annotations

import json
import os
import random
import time

import pytest

pytestmark = pytest.mark.soak


def test_nothing_is_lost_and_nothing_overspent_whatever_happens() -> None:
    from tests.faults.harness import Harness
    from tests.faults.soak import soak

    minutes = float(os.environ.get("SOAK_MINUTES", "10"))
    seed = int(os.environ.get("NOBURN_SEED", random.SystemRandom().randrange(10**6)))
    with Harness(seed=seed, celery=True, syscall_faults=True) as harness:
        soak(harness, until=time.monotonic() + minutes * 60)
        totals = harness.told()
    print(json.dumps({name: value for name, value in totals.items() if name != "service"}, indent=1))
    counts = harness.journal.counts
    assert totals["lost"] == totals["over"] == totals["budgets over"] == totals["drift alerts"] == 0
    assert sum(harness.injected.values()) > minutes
    assert counts["allow"] > 100, counts
    assert counts["budget_exceeded"] > 0, counts
