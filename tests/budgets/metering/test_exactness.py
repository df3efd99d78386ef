"""Rollups equal the ledger to the nano, whatever arrives in which order and whoever is killed."""

from __future__ import annotations

import select
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from subprocess import Popen
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.budgets.metering.ledger import RandomLedger, counted, resolve, rollups

pytestmark = pytest.mark.real_db

BATCH = 500
ENTRIES_A_STEP = "700"


def _lines(process: Popen[str]) -> int:
    """The entries that a roller says it took, as far as it said so by now."""
    assert process.stdout is not None
    entries = 0
    while select.select([process.stdout], [], [], 0)[0] and (line := process.stdout.readline()):
        entries += int(line)
    return entries


def _end(process: Popen[str]) -> int:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return sum(int(line) for line in out.splitlines())


def _verified(connection: psycopg.Connection[Any], tenants: list[UUID]) -> list[tuple[Any, ...]]:
    return [
        row
        for tenant in tenants
        for row in connection.execute("SELECT * FROM nb_verify_usage(%s)", [tenant]).fetchall()
    ]


class TestRollups:
    @pytest.mark.parametrize("count", [8_000, pytest.param(200_000, marks=pytest.mark.soak)])
    def test_equal_the_ledger_with_two_rollers_of_which_one_is_killed(
        self,
        count: int,
        owner: psycopg.Connection[Any],
        tenant: Callable[[str], UUID],
        process: Callable[..., Popen[str]],
    ) -> None:
        tenants = [tenant("alice"), tenant("bob"), tenant("charlie")]
        ledger = RandomLedger(tenants, seed=count, now=datetime.now(UTC))
        command = ("-m", "tests.budgets.metering.roller", ENTRIES_A_STEP)
        steady, doomed = process(*command), process(*command)
        sent = taken = kills = 0
        while sent < count:
            items, outcomes = ledger.batch(BATCH)
            assert resolve(owner, items) == outcomes
            sent += len(items)
            taken += _lines(steady) + _lines(doomed)
            if kills == 0 and sent >= count // 2:
                doomed.send_signal(signal.SIGKILL)
                doomed.wait(timeout=20)
                doomed = process(*command)
                kills += 1
        taken += _end(steady) + _end(doomed)

        assert kills == 1
        assert all(
            ledger.tallies[word] > count // 200 for word in ("first", "corrected", "replayed", "conflict")
        )
        entries = ledger.tallies["first"] + ledger.tallies["corrected"]
        # What the killed one had committed without having said so is one step at most.
        assert entries - 2 * int(ENTRIES_A_STEP) <= taken
        assert rollups(owner, tenants) == counted(owner, ledger)
        assert _verified(owner, tenants) == []
