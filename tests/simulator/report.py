"""Prints what the simulator did at the end of a test run; works under pytest-xdist, whose workers report by
properties of their tests. `tests/conftest.py` imports the hook."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

HAPPENED = (
    "placed", "denied exceeded", "denied busy", "messages lost", "messages twice", "messages late",
    "restarts with data rolled back", "Redis flushed", "promotions beside an old master", "PostgreSQL outages",
    "late settles", "settled after voided", "overruns", "limits cut", "write-offs",
)  # fmt: skip


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add up what the tests of the simulator recorded."""
    seeds = violations = 0
    counts: Tally[str] = Tally()
    mutants: dict[str, int] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            properties = dict(getattr(report, "user_properties", ()))
            seeds += properties.get("simulator_seeds", 0)
            violations += properties.get("simulator_violations", 0)
            counts.update(properties.get("simulator_counts", {}))
            mutants.update(properties.get("simulator_mutant", {}))
    if seeds:
        terminalreporter.write_line("")
        terminalreporter.write_line(
            f"simulator: {seeds:,} seeds of the specification, {violations} violations"
        )
        terminalreporter.write_line("  " + ", ".join(f"{counts[name]:,} {name}" for name in HAPPENED))
    if mutants:
        killed = [took for took in mutants.values() if took]
        worst = max(killed, default=0)
        terminalreporter.write_line(
            f"simulator: {len(killed)} of {len(mutants)} mutants killed, each within {worst:,} seeds"
        )
