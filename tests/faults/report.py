"""Makes the tables of docs/reliability.md from the runs that soaks added to docs/reliability.jsonl.

`python -m tests.faults.report` writes them; a test holds the page to the file.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.pages import with_part

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNS, PAGE = DOCS / "reliability.jsonl", DOCS / "reliability.md"
BEGIN, END = "<!-- made by tests/faults/report.py from here -->", "<!-- to here -->"
REASONS = ("budget_exceeded", "budget_busy")
BY_CLIENTS = (
    "client gone after its pre-flight",
    "hold open over the end of a month",
    "settle, void and expiry at once",
    "settled after expiry",
)
"""What the load does by itself; all else is injected from outside."""


def runs() -> list[dict[str, Any]]:
    """Every run, oldest first."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()]


def tables(found: list[dict[str, Any]]) -> str:
    """The two tables."""
    injected: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    service: dict[str, list[float]] = defaultdict(list)
    for run in found:
        injected.update(run["injected"])
        counts.update(run["counts"])
        for name, measured in run["service"].items():
            service[name] += measured

    def total(name: str) -> int:
        return sum(int(run[name]) for run in found)

    def share(part: int, whole: int) -> str:
        return f"{part} ({part / whole:.2%})" if whole else str(part)

    ours = sum(injected[name] for name in BY_CLIENTS)
    killed = sum(count for name, count in injected.items() if "killed" in name and "client" not in name)
    first, last = found[0]["at"][:10], found[-1]["at"][:10]
    lines = [
        f"{len(found)} runs, {first} to {last}: {sum(injected.values()):,} faults, of which clients caused {ours:,}"
        f" themselves and {killed:,} were processes that were killed.",
        "",
        "| Fault | Injected | Acknowledged settles lost | Budgets exceeded | Seconds until service: median, longest |",
        "|---|---|---|---|---|",
    ]
    # A run that loses or exceeds anything ends there and then: what it had injected is counted against it.
    for name in sorted(injected):
        lost = sum(run["lost"] for run in found if name in run["injected"])
        over = sum(run["over"] + run["budgets over"] for run in found if name in run["injected"])
        times = service[name]
        seconds = f"{median(times):.1f}, {max(times):.1f}" if times else "none was missing"
        lines.append(f"| {name} | {injected[name]:,} | {lost} | {over} | {seconds} |")
    judged = [run for run in found if "falsely refused" in run]
    refused = sum(run["refused by a customer's budget"] for run in judged)
    falsely = sum(run["falsely refused"] for run in judged)
    lines += [
        "",
        "| Counted over all runs | |",
        "|---|---|",
        f"| calls | {counts['calls']:,} |",
        f"| allowed | {counts['allow']:,} |",
        *(f"| refused: `{reason}` | {counts[reason]:,} |" for reason in REASONS),
        f"| answers of 503, repeated by clients | {counts['503']:,} |",
        f"| broken connections, repeated by clients | {counts['broken connections']:,} |",
        f"| settlements and voids acknowledged | {total('acknowledged'):,} |",
        f"| of these not in PostgreSQL, or otherwise | {total('lost')} |",
        f"| placings above a limit | {total('over')} |",
        f"| budgets above their limit at the end | {total('budgets over')} |",
        f"| refusals by a customer's budget that had room | {share(falsely, refused)} |",
        f"| stranded at the end, of all customers' limits | {total('stranded') / max(1, total('limits')):.1%} |",
        f"| alerts of drift raised by the checker | {total('drift alerts')} |",
    ]
    return "\n".join(lines)


def page(text: str, made: str) -> str:
    """The page with its tables made anew."""
    return with_part(text, made, begin=BEGIN, end=END)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), tables(runs())))
