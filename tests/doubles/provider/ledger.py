"""Everything that reached the double: a bounded list of calls, and totals that are never cut short.

Neither prompts nor credentials are kept.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import msgspec

ENTRIES_MAX = 100_000
NAMES_MAX = 10_000
OTHERS = "(others)"


class Metered(msgspec.Struct, frozen=True):
    """Tokens of one call under one set of names.

    `input_tokens` is the whole input, cached tokens included; `output_tokens` includes reasoning;
    `cache_write_tokens` includes those kept for an hour.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0


class Entry(msgspec.Struct):
    """One call that reached the double.

    `outcome` is `ok`, `error` (refused by status or a bad body; nothing billed), `cut` (the double dropped
    it), `failed` (an error event inside a stream), `disconnected` (the caller left), or `open` meanwhile.
    `usage` is what the caller was or would have been told, in the provider's own names.
    """

    seq: int
    received_at: float
    endpoint: str
    model: str
    stream: bool
    customer: str | None
    label: str | None
    cap: int | None
    noburn_headers: list[str]
    outcome: str = "open"
    status: int = 200
    latency_ms: float = 0
    metered: Metered = Metered()
    usage: dict[str, Any] | None = None


class Ledger:
    """The double's memory. One event loop writes it, so it takes no lock."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.entries_max = entries_max
        self.clear()

    def clear(self) -> None:
        """Forgets everything, the totals and the sequence included."""
        self.entries: deque[Entry] = deque(maxlen=self.entries_max)
        self.seq = 0
        self.closed = 0
        self.totals: dict[str, dict[str, Counter[str]]] = {"models": {}, "customers": {}, "labels": {}}
        self.all: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()

    def open(self, entry: Entry) -> Entry:
        """Adds a call under way and numbers it."""
        self.seq += 1
        entry.seq = self.seq
        self.entries.append(entry)
        return entry

    def close(self, entry: Entry) -> None:
        """Counts a call whose outcome is known. Call it once, before the last byte is sent."""
        self.closed += 1
        self.outcomes[entry.outcome] += 1
        self.statuses[str(entry.status)] += 1
        counts = Counter(msgspec.structs.asdict(entry.metered))
        counts["requests"] = 1
        counts["answered"] = int(entry.outcome == "ok")
        self.all.update(counts)
        names = {"models": entry.model, "customers": entry.customer, "labels": entry.label}
        for group, name in names.items():
            if name is None:
                continue
            totals = self.totals[group]
            key = name if name in totals or len(totals) < NAMES_MAX else OTHERS
            totals.setdefault(key, Counter()).update(counts)

    def page(self, *, after: int, limit: int) -> list[Entry]:
        """Returns up to `limit` entries still held whose sequence number is above `after`, oldest first."""
        return [entry for entry in self.entries if entry.seq > after][:limit]

    def summary(self) -> dict[str, Any]:
        """Returns the totals since the last clear, by outcome, status, model, customer and label."""
        return {
            **dict.fromkeys(Metered.__struct_fields__, 0),
            "answered": 0,
            **self.all,
            "requests": self.seq,
            "open": self.seq - self.closed,
            "forgotten": self.seq - len(self.entries),
            "outcomes": dict(self.outcomes),
            "statuses": dict(self.statuses),
            **{
                group: {name: dict(counts) for name, counts in of.items()}
                for group, of in self.totals.items()
            },
        }
