"""Runs of the plane in memory: caps of USD and steps, stops, ends; without seconds, since nothing here has a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote
from uuid import uuid4


class Budgets(Protocol):
    """Where a run's cap of USD becomes a budget."""

    def cap(self, run: str, limit_usd: str) -> None: ...


@dataclass
class MemoryRun:
    """One run."""

    id: str
    parent: str | None
    steps: int | None
    state: str = "open"
    reason: str = ""
    calls: int = 0

    def shown(self) -> dict[str, Any]:
        """It as the gateway shows it."""
        return {"run": self.id, "state": self.state, "reason": self.reason, "parent": self.parent}


class MemoryRuns:
    """The runs that were started, by their ids."""

    def __init__(self) -> None:
        self.by_id: dict[str, MemoryRun] = {}

    def above(self, run: str) -> list[str]:
        """The runs above a run, the nearest first."""
        found: list[str] = []
        known = self.by_id.get(run)
        while known is not None and known.parent is not None:
            found.append(known.parent)
            known = self.by_id.get(known.parent)
        return found

    def refusal(self, run: str) -> dict[str, Any] | None:
        """What refuses a call of the run, if something does."""
        for name in (run, *self.above(run)):
            known = self.by_id.get(name)
            if known is None:
                continue
            if known.state != "open":
                return {"decision": "deny", "reason": "run_stopped", "run": {"id": name}}
            if known.steps is not None and known.calls >= known.steps:
                return {"decision": "deny", "reason": "run_limit", "run": {"id": name, "cap": "steps"}}
        return None

    def count(self, run: str) -> None:
        """Notes a call of the run."""
        for name in (run, *self.above(run)):
            if (known := self.by_id.get(name)) is not None:
                known.calls += 1

    def answer(self, path: str, budgets: Budgets, body: dict[str, Any]) -> dict[str, Any]:
        """Answers a request about runs as the gateway does."""
        if path == "/v1/runs":
            caps = body.get("caps") or {}
            made = MemoryRun(
                body.get("run") or f"run_memory_{uuid4().hex}", body.get("parent"), caps.get("steps")
            )
            if made.parent is not None and (refused := self.refusal(made.parent)) is not None:
                return refused
            self.by_id[made.id] = made
            if "usd" in caps:
                budgets.cap(made.id, caps["usd"])
            return {"decision": "allow", **made.shown()}
        name, _, how = path.removeprefix("/v1/runs/").rpartition("/")
        known = self.by_id.setdefault(unquote(name), MemoryRun(unquote(name), None, None))
        now = known.state == "open"
        if now:
            known.state = "stopped" if how == "stop" else "ended"
            known.reason = str(body.get("reason") or "")
        summary = {"calls": known.calls, "cost_usd": "0", "tokens": 0, "runs": 1, "models": [], "refused": {}}
        return {**known.shown(), "closed_now": now, "summary": summary}
