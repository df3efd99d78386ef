"""The specification of docs/escrow.md holds in every schedule, and none of its rules can go unnoticed."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import pytest

from .mutants import MUTANTS
from .runner import kill, survey

SEEDS = 5_000
CHUNK = 500
MUTANT_SEEDS = SEEDS

MUST_HAPPEN = (
    "placed", "placed by a Redis that is cut off", "fired", "denied exceeded", "denied busy", "answered ASK",
    "answered FENCED", "answered NOSCRIPT", "answered STALE_POLICY", "answered STALE_WINDOW", "settled", "voided",
    "presumed", "late settles", "settled after presumed", "settled after voided", "voided after presumed",
    "conflicts", "replays of resolutions", "resolved after its window", "overruns", "extended", "shrinks",
    "limits cut", "limits raised", "budgets made in mid-window", "incarnations retired alone",
    "lost incarnations", "epochs lost", "planned closes", "write-offs", "write-offs refused", "re-rated dearer",
    "re-rated cheaper", "re-ratings of calls that moved", "calls retried",
    "settlements kept in an outbox", "authorizations lost", "messages lost", "answers lost", "messages late",
    "messages twice", "messages delayed", "crashes of a gateway", "crashes of a controller",
    "crashes of a sweeper", "crashes of a operator", "restarts with data rolled back", "restarts with data lost",
    "credit that ends", "answered ASK at an end", "leases", "drawn", "draws refused by their holder",
    "draws of a lease that is placed", "draws of a lease that is presumed", "draws reported twice", "leases closed",
    "closes refused", "holders killed", "holders forked", "outboxes taken over", "reports kept in an outbox",
    "Redis flushed", "Redis killed", "Redis was down", "promotions beside an old master", "PostgreSQL outages",
    "PostgreSQL was down", "counter keys deleted by hand",
)  # fmt: skip
"""A set of schedules in which one of these never happens proves nothing."""


class TestSpecification:
    """The true rules, over all seeds."""

    @pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
    def test_keeps_every_invariant(self, first: int, record_property: Any) -> None:
        counts: Tally[str] = Tally()
        failures = survey(range(first, first + CHUNK), counts)
        record_property("simulator_seeds", CHUNK)
        record_property("simulator_violations", len(failures))
        record_property("simulator_counts", dict(counts))
        assert not failures, failures[0]
        never = [what for what in MUST_HAPPEN if not counts[what]]
        assert not never, f"nothing was shown about: {', '.join(never)}"


class TestMutant:
    """Each rule altered on its own."""

    @pytest.mark.parametrize("name", MUTANTS)
    def test_is_killed(self, name: str, record_property: Any) -> None:
        took, why = kill(name, MUTANT_SEEDS)
        record_property("simulator_mutant", {name: took if why else 0})
        assert why, f"{MUTANTS[name]}: no invariant broke in {took:,} seeds"
