"""Makes the tables of docs/mutants.md from docs/mutants.jsonl, to which the run of all mutants adds:

    NOBURN_MUTANT_RUNS=docs/mutants.jsonl .venv/bin/pytest tests/machine -m soak -k all_killed
    .venv/bin/python -m tests.machine.report

A test holds the page to the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.machine.mutants import AROUND, MODEL_ALONE, REAL, WITHOUT_EFFECT
from tests.simulator.mutants import MUTANTS
from tests.support.pages import with_part

DOCS = Path(__file__).resolve().parents[2] / "docs"
RUNS, PAGE = DOCS / "mutants.jsonl", DOCS / "mutants.md"
BEGIN, END = "<!-- made by tests/machine/report.py from here -->", "<!-- to here -->"


def add(path: Path, told: dict[str, Any]) -> None:
    """Adds one mutant's end to a file."""
    with path.open("a") as file:
        file.write(json.dumps(told) + "\n")


def runs() -> list[dict[str, Any]]:
    """Every end of a mutant, oldest first."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()]


def latest(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last end of each mutant, by name."""
    return [run for _, run in sorted({run["mutant"]: run for run in found}.items())]


def tables(found: list[dict[str, Any]]) -> str:
    """The tables of what was killed, and of what cannot be."""
    last = latest(found)
    killed = {run["mutant"] for run in last}
    alive = [name for name in sorted([*REAL, *AROUND]) if name not in killed]
    alone: dict[str, list[str]] = {}
    for name, why in {**WITHOUT_EFFECT, **MODEL_ALONE}.items():
        alone.setdefault(why, []).append(f"`{name}`")
    return "\n".join(
        [
            f"{len(last)} of {len(REAL) + len(AROUND)} killed, {min(run['at'] for run in last)} to"
            f" {max(run['at'] for run in last)}; the longest-lived in life {max(run['life'] for run in last)}."
            + (f" Not killed yet: {', '.join(f'`{name}`' for name in alive)}." if alive else ""),
            "",
            "| Mutant | Alters | Life, step | What broke |",
            "|---|---|---|---|",
            *(
                f"| `{run['mutant']}` | {MUTANTS[run['mutant']]} | {run['life']}, {run['step']} | {run['broke']} |"
                for run in last
            ),
            "",
            "## Not run",
            "",
            "| Mutant | Why |",
            "|---|---|",
            *(f"| {', '.join(names)} | {why} |" for why, names in alone.items()),
        ]
    )


def page(text: str, made: str) -> str:
    """The page with its tables made anew."""
    return with_part(text, made, begin=BEGIN, end=END)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(), tables(runs())))
