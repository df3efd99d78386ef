"""What the proxy counts, in Prometheus's text format; several processes' counts are added up through files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
SERIES_MAX = 2_000
OTHERS = "other"

_HELP: Mapping[str, tuple[str, str]] = {
    "requests_total": ("counter", "Requests by upstream, endpoint and status."),
    "decisions_total": ("counter", "Calls by what noburn decided, and why."),
    "upstream_failures_total": ("counter", "Attempts that no answer came back for, or one of 500 and above."),
    "attempts_total": ("counter", "Attempts to call an upstream."),
    "endings_total": ("counter", "How streams and answers ended on their way: ended, cut, left."),
    "added_seconds": ("histogram", "Time before the upstream was called: reading, deciding, waiting."),
    "in_flight": ("gauge", "Requests under way."),
    "settlements_waiting": ("gauge", "Settlements that noburn has not got yet."),
    "draining": ("gauge", "Whether this process is about to end."),
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """The counts of one process. `directory`: where processes tell each other, None for one alone."""

    def __init__(self, directory: Path | None = None) -> None:
        self._counts: dict[tuple[str, Labels], float] = {}
        self._file = None if directory is None else directory / f"{os.getpid()}.json"

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Counts something."""
        key = (name, tuple(sorted(labels.items())))
        if key not in self._counts and len(self._counts) >= SERIES_MAX:
            key = (name, tuple((label, OTHERS) for label in sorted(labels)))
        self._counts[key] = self._counts.get(key, 0) + amount

    def set(self, name: str, value: float) -> None:
        """Sets a gauge."""
        self._counts[name, ()] = value

    def observe(self, name: str, seconds: float) -> None:
        """Counts a duration."""
        for bound in BUCKETS:
            if seconds <= bound:
                self.add(f"{name}_bucket", le=f"{bound:g}")
        self.add(f"{name}_bucket", le="+Inf")
        self.add(f"{name}_sum", seconds)
        self.add(f"{name}_count")

    def save(self) -> None:
        """Tells the other processes. What ended ones told stays, so that counts never fall."""
        if self._file is None:
            return
        kept = [[name, list(labels), value] for (name, labels), value in self._counts.items()]
        part = self._file.with_suffix(".part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(kept))
            part.replace(self._file)

    def _all(self) -> dict[tuple[str, Labels], float]:
        found = dict(self._counts)
        if self._file is None:
            return found
        for path in sorted(self._file.parent.glob("*.json")):
            if path == self._file:
                continue
            with contextlib.suppress(OSError, ValueError):
                for name, labels, value in json.loads(path.read_text()):
                    key = (name, tuple((one, other) for one, other in labels))
                    found[key] = found.get(key, 0) + value
        return found

    def text(self) -> str:
        """Returns all of it, of every process."""
        found = self._all()
        lines = []
        for name, (kind, what) in _HELP.items():
            lines += [f"# HELP noburn_proxy_{name} {what}", f"# TYPE noburn_proxy_{name} {kind}"]
            for (series, labels), value in sorted(found.items()):
                if series == name or (kind == "histogram" and series.startswith(f"{name}_")):
                    named = ",".join(f'{one}="{_escaped(other)}"' for one, other in labels)
                    lines.append(f"noburn_proxy_{series}{'{' + named + '}' if named else ''} {value:g}")
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
