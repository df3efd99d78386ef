"""A ledger of random resolutions, and what its rollups must be by a count that knows no ledger: from the last state of
each hold alone. The SQL adds differences; this adds up what is."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec
import psycopg

from budgets.stores.redis.keys import shard_of

MEASURES = (
    "cost_nano",
    "presumed_nano",
    "requests",
    "errors",
    "tokens",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "images",
    "tool_calls",
    "latency_ms",
    "latencies",
    "presumed_requests",
)
NAMES = ("project", "customer", "end_user", "plan", "api_key", "provider", "model", "tag", "value")
COUNTS = MEASURES[5:14]
LATE_DAYS = (33, 51, 70)

Row = tuple[str, UUID, datetime, tuple[str, ...]]
Figures = dict[str, int]


@dataclass(slots=True)
class Life:
    """One hold: the names on it, when it was placed, and what was last said of it."""

    tenant_id: UUID
    hold_id: UUID
    at: datetime
    names: dict[str, str]
    tags: dict[str, str]
    last: dict[str, Any]


class RandomLedger:
    """Batches of resolutions for `nb_resolve`: first ones, corrections, duplicates, conflicts, late ones."""

    def __init__(self, tenants: Sequence[UUID], *, seed: int, now: datetime, customers: int = 12) -> None:
        self._chance = random.Random(seed)
        self._tenants, self._now, self._customers = list(tenants), now, customers
        self._count = 0
        self._seed = seed
        self.lives: list[Life] = []
        self.tallies: dict[str, int] = defaultdict(int)

    def batch(self, size: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Items for one call, each of another hold, and the outcome that each must have."""
        items: list[dict[str, Any]] = []
        outcomes: dict[str, str] = {}
        while len(items) < size:
            life, said, outcome = self._next()
            if str(life.hold_id) in outcomes:
                continue
            outcomes[str(life.hold_id)] = outcome
            self.tallies[outcome] += 1
            items.append(_item(life, said))
            if outcome == "first":
                self.lives.append(life)
            if outcome in ("first", "corrected"):
                life.last = said
        return items, outcomes

    def _next(self) -> tuple[Life, dict[str, Any], str]:
        chance = self._chance
        if not self.lives or chance.random() < 0.6:
            life = self._life()
            return (
                life,
                self._said(chance.choices(["settled", "presumed", "voided"], [55, 30, 15])[0]),
                "first",
            )
        life = chance.choice(self.lives)
        if chance.random() < 0.15:
            return life, life.last, "replayed"
        state = chance.choice(["settled", "voided", "presumed"])
        if state == "presumed":
            return life, self._said(state), "replayed"
        said = self._said(state)
        if life.last["state"] == "presumed" or (life.last["state"] == "voided" and state == "settled"):
            return life, said, "corrected"
        same = life.last["state"] == state and life.last["digest"] == said["digest"]
        return life, said, "replayed" if same else "conflict"

    def _life(self) -> Life:
        chance = self._chance
        self._count += 1
        tenant = chance.choice(self._tenants)
        back = timedelta(days=chance.choice(LATE_DAYS) if chance.random() < 0.03 else 0)
        back += timedelta(hours=chance.uniform(0, 40))
        # Whole milliseconds, as an authorization has them.
        at = datetime.fromtimestamp(int((self._now - back).timestamp() * 1000) / 1000, UTC)
        model = chance.choice(["gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "eigenes-Modell,“ä”"])
        names = {
            "project": chance.choice(["web", "app"]),
            "customer": f"c{chance.randrange(self._customers)}" if chance.random() < 0.95 else "",
            "end_user": chance.choice(["", "u1", "u2", 'u"3, (']),
            "plan": chance.choice(["free", "pro", ""]),
            "api_key": chance.choice(["key_a", "key_b"]),
            "provider": "anthropic" if model.startswith("claude") else "openai",
            "model": model,
        }
        tags = {
            name: chance.choice(["x", "y", ""]) for name in ("feature", "team", "ö") if chance.random() < 0.4
        }
        hold = uuid5(tenant, f"{self._seed}-{self._count}")
        return Life(tenant, hold, at, names, tags, {})

    def _said(self, state: str) -> dict[str, Any]:
        chance = self._chance
        said: dict[str, Any] = {
            "state": state,
            "cost": 0,
            "tokens": 0,
            "requests": 0,
            "usage": None,
            "outcome": "void",
        }
        said["latency_ms"] = None
        if state == "presumed":
            said |= {"cost": chance.randrange(10**9), "tokens": 700, "requests": 1}
            said["outcome"] = chance.choice(["expired", "error", "cut"])
        if state == "settled":
            usage: dict[str, Any] = {
                name: chance.randrange(1, 5000) for name in COUNTS if chance.random() < 0.5
            }
            usage.pop("tool_calls", None)
            if chance.random() < 0.2:
                usage["tool_calls"] = {"web_search": chance.randrange(4), "code_execution": 1}
            tokens = usage.get("input_tokens", 0) + usage.get("output_tokens", 0)
            said |= {"cost": chance.randrange(10**9), "tokens": tokens, "requests": 1, "usage": usage}
            said["outcome"] = chance.choices(["ok", "error", "cut"], [8, 1, 1])[0]
            said["latency_ms"] = chance.choice([None, chance.randrange(90_000)])
        said["digest"] = f"{hash((state, said['cost'], str(said['usage']))) & (2**64 - 1):016x}"
        return said

    def expected(self) -> dict[Row, Figures]:
        """Every rollup that is not all zeros."""
        found: dict[Row, Figures] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
        for life in self.lives:
            figures = figures_of(life)
            for row in rows_of(life):
                total = found[row]
                for name, value in figures.items():
                    total[name] += value
        return {row: figures for row, figures in found.items() if any(figures.values())}


def figures_of(life: Life) -> Figures:
    """What one hold counts for, by what was last said of it."""
    said = life.last
    figures = dict.fromkeys(MEASURES, 0)
    if said["state"] == "voided":
        return figures
    usage = said["usage"] or {}
    figures |= {name: usage.get(name, 0) for name in COUNTS}
    figures["tool_calls"] = sum(usage.get("tool_calls", {}).values())
    figures |= {"cost_nano": said["cost"], "tokens": said["tokens"], "requests": 1}
    figures["presumed_nano"] = said["cost"] if said["state"] == "presumed" else 0
    figures["presumed_requests"] = int(said["state"] == "presumed")
    figures["errors"] = int(said["outcome"] in ("error", "cut"))
    if said["latency_ms"] is not None:
        figures |= {"latency_ms": said["latency_ms"], "latencies": 1}
    return figures


def rows_of(life: Life) -> Iterable[Row]:
    """The rollups that one hold belongs to."""
    hour = life.at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    own = {**life.names, "tag": "", "value": ""}
    total = {**own, "customer": "", "end_user": ""}
    for suffix, bucket in (("hours", hour), ("days", day)):
        yield suffix, life.tenant_id, bucket, tuple(own[name] for name in NAMES)
        yield f"total_{suffix}", life.tenant_id, bucket, tuple(total[name] for name in NAMES)
        for tag, value in life.tags.items():
            tagged = {**own, "end_user": "", "plan": "", "api_key": "", "tag": tag, "value": value}
            yield f"tag_{suffix}", life.tenant_id, bucket, tuple(tagged[name] for name in NAMES)


def _item(life: Life, said: dict[str, Any]) -> dict[str, Any]:
    return {
        "hold": life.hold_id,
        "month": life.at.date().replace(day=1).isoformat(),
        "tenant": life.tenant_id,
        "shard": shard_of(life.tenant_id),
        "epoch": life.tenant_id,
        "flags": [],
        "counters": [],
        "incs": [],
        "held": [],
        "posted": [],
        "held_cost": 10**9,
        "placed_at": int(life.at.timestamp() * 1000),
        "run": "",
        "tags": life.tags,
        "reported_model": "",
        "price_id": "",
        "note": "",
        "key": life.names["api_key"],
        **{name: life.names[name] for name in NAMES[:7] if name != "api_key"},
        **said,
    }


def resolve(connection: psycopg.Connection[Any], items: list[dict[str, Any]]) -> dict[str, str]:
    """Books items as a gateway does; the outcome of each, by hold."""
    text = msgspec.json.encode(items).decode()
    row = connection.execute("SELECT nb_resolve(%s::jsonb)", [text]).fetchone()
    assert row is not None
    return {result["hold"]: result["outcome"] for result in row[0]["results"]}


def rollups(connection: psycopg.Connection[Any], tenants: Sequence[UUID]) -> dict[Row, Figures]:
    """Every rollup of some tenants that is not all zeros."""
    columns = ", ".join((*NAMES, *MEASURES))
    found = connection.execute(
        f"SELECT grain, tenant_id, bucket, {columns} FROM usage_rollups WHERE tenant_id = ANY (%s)",
        [list(tenants)],
    ).fetchall()
    at = 3 + len(NAMES)
    rows = {
        (row[0], row[1], row[2].astimezone(UTC), tuple(row[3:at])): dict(zip(MEASURES, row[at:], strict=True))
        for row in found
    }
    assert len(rows) == len(found)
    return {row: figures for row, figures in rows.items() if any(figures.values())}


def counted(connection: psycopg.Connection[Any], *ledgers: RandomLedger) -> dict[Row, Figures]:
    """What the rollups must be, without the hours that were pruned."""
    (since,) = connection.execute("SELECT hours_from FROM usage_cursor").fetchone() or (None,)
    assert since is not None
    return {
        row: figures
        for ledger in ledgers
        for row, figures in ledger.expected().items()
        if row[2] >= since or row[0] in ("days", "total_days", "tag_days")
    }
