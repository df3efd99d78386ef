"""Every kind of fault once, under load: service returns, nothing acknowledged is lost, no budget is exceeded.

The soak (`test_soak.py`) draws them at random for as long as one likes; docs/reliability.md is made of its runs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.harness import Harness

TRIES = 4
"""A process told to die at a step may not come to it at once; of so many one must."""


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    from tests.faults.harness import Harness

    seed = int(os.environ.get("NOBURN_SEED", random.SystemRandom().randrange(10**6)))
    with Harness(seed=seed, celery=True, syscall_faults=True) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def _nothing_was_vacuous(harness: Harness) -> Iterator[None]:
    yield
    counts = harness.journal.counts
    assert counts["allow"] > 50, counts
    assert counts["budget_exceeded"] + counts["budget_busy"] > 0, counts
    assert harness.totals()["drift alerts"] == 0


def suffer(harness: Harness, *names: str) -> None:
    """Injects faults, one after the other, and holds noburn to the journal and to its checker.

    To come to rest and be checked takes longer than most faults, so a test has all of one kind.
    """
    from tests.faults.faults import FAULTS

    harness.load.go()
    for name in names:
        assert any(harness.inject(FAULTS[name]) for _ in range(TRIES)), f"{name} could not be injected"
    harness.settle_down()


class TestFaults:
    def test_a_gateway_is_killed(self, harness: Harness) -> None:
        steps = (
            "nb_grant sent",
            "preflight after",
            "nb_resolve sent",
            "resolve before",
            "/v1/settle answered",
        )
        suffer(harness, *(f"gateway killed: {step}" for step in steps))

    def test_answers_are_lost_and_one_hold_is_resolved_by_many_at_once(self, harness: Harness) -> None:
        lost = ("answers of gateways lost", "answers of Redis lost", "answers of PostgreSQL lost")
        at_once = ("64 duplicate settlements at once", "settle, void and expiry at once")
        suffer(harness, *lost, "client killed in mid-call", *at_once, "settled after expiry")

    def test_redis_is_lost_or_another(self, harness: Harness) -> None:
        lost = ("Redis killed", "Redis flushed", "append-only file cut")
        suffer(harness, *lost, "failover to a lagging replica", "two masters at once")

    def test_postgres_is_away_refuses_rows_or_lacks_partitions(self, harness: Harness) -> None:
        refusing = ("poison rows in batches", "no partition for this month")
        suffer(harness, "PostgreSQL frozen", "PostgreSQL killed", *refusing)

    @pytest.mark.soak
    def test_postgres_is_restored_from_a_backup(self, harness: Harness) -> None:
        suffer(harness, "PostgreSQL restored from an older backup")

    @pytest.mark.soak
    def test_postgres_is_away_for_a_minute(self, harness: Harness) -> None:
        suffer(harness, "PostgreSQL stopped for a minute", "PostgreSQL frozen for half a minute")

    def test_disks_fail(self, harness: Harness) -> None:
        suffer(
            harness,
            "Redis: fsync errors",
            "Redis: disk full",
            "PostgreSQL: fsync errors",
            "PostgreSQL: disk full",
        )

    def test_controllers_workers_and_their_broker_die_and_clocks_are_off(self, harness: Harness) -> None:
        controllers = ("controllers killed: SCRIPT sent", "controllers killed: retire sent")
        clocks = ("clock an hour ahead", "clock an hour behind")
        suffer(harness, *controllers, "worker killed", "broker flushed", "worker killed", *clocks)

    def test_a_planned_close_strands_nothing(self, harness: Harness) -> None:
        harness.settle_down()
        before = harness.totals()["stranded"]
        for shard in harness.installation.ask("used"):
            assert "failed" not in harness.installation.ask("close", shard=shard)
        assert harness.totals()["stranded"] == before
        harness.settle_down()
