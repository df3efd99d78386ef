"""/api/v1/runs, …/end, …/stop: runs in the original client's words."""

from __future__ import annotations

import json
import secrets
from functools import partial
from typing import Any, Final

from budgets.domain.runs import IDLE_SECONDS_MAX, METADATA_MAX, RunState
from budgets.gateway.original.native import Answer, Handler, Native, answered
from budgets.gateway.request import Request
from budgets.gateway.runs import ENDINGS
from noburn.kit.loose_json import TEXT_MAX, Fields, number, object_of
from noburn.kit.money import from_usd, to_usd
from noburn.kit.problems import ProblemError, problem

RUNS_PATH: Final = "/api/v1/runs"
OUT_OF_BUDGET: Final = ("run_limit", "budget_exceeded")


class OriginalRuns:
    """Starts, ends and stops runs."""

    def __init__(self, native: Native) -> None:
        self._native = native

    def closing(self, path: str) -> Handler | None:
        """The handler of a path that closes a run; None if it does not."""
        for ending, state in ENDINGS.items():
            if path.startswith(f"{RUNS_PATH}/") and path.endswith(ending):
                run = path.removeprefix(f"{RUNS_PATH}/").removesuffix(ending)
                return partial(self._close, run, state) if run else None
        return None

    async def start(self, request: Request) -> Answer:
        """Starts a run with its own cap. Runs of this client end by its word, or after a day without a call."""
        native = self._native
        snapshot, key = await native.live_key(request, scope="preflight")
        request.check_media()
        fields = Fields(raw := object_of(request.body))
        project_id, user = fields.text("project_id", needed=True), fields.text("end_user_id")
        cap = fields.amount("budget_cap_usd")
        metadata = raw.get("metadata")
        if metadata is not None and type(metadata) is not dict:
            fields.bad("metadata", "must be an object")
        fields.done()
        _, project = await native.project(project_id, snapshot, key)
        subject = {"project": project, "customer": user, "user": user}
        capped = raw.get("budget_cap_usd") is not None
        body = {
            "caps": {"usd": to_usd(cap)} if capped else {},
            "subject": {name: value for name, value in subject.items() if value},
            "idle_seconds": IDLE_SECONDS_MAX,
            "metadata": _texts(metadata or {}),
        }
        told = await native.ask(native.start_run, request, body, secrets.token_hex(16))
        if told["decision"] != "allow":
            raise ProblemError(problem("invalid-request", str(told["detail"])))
        return answered(
            {
                "run_id": told["run"],
                "budget_cap_usd": number(cap) if capped else None,
                "started_at": told["started_at"],
            },
            201,
        )

    async def _close(self, run: str, state: str, request: Request) -> Answer:
        native = self._native
        snapshot, key = await native.any_key(request)
        request.check_media()
        fields = Fields(object_of(request.body))
        project_id, reason = fields.text("project_id", needed=True), fields.text("reason")
        fields.done()
        await native.project(project_id, snapshot, key)
        told = await native.ask(
            partial(native.close_run, run, state), request, {"reason": reason}, secrets.token_hex(16)
        )
        return answered(_closed(told, stopping=state == RunState.STOPPED))


def _closed(told: dict[str, Any], *, stopping: bool) -> dict[str, Any]:
    summary = told["summary"]
    spend = from_usd(summary["cost_usd"], field="cost_usd")
    cap = None if told["caps"]["usd"] is None else from_usd(told["caps"]["usd"], field="usd")
    refused = any(summary["refused"].get(reason) for reason in OUT_OF_BUDGET)
    stopped = told["state"] == RunState.STOPPED
    status = "completed"
    if stopped:
        status = "stopped"
    elif refused or (cap is not None and spend >= cap):
        status = "budget_exceeded"
    answer = {
        "run_id": told["run"],
        "status": status,
        "spend_usd": number(spend),
        "budget_cap_usd": None if cap is None else number(cap),
        "started_at": told["started_at"],
        "ended_at": told["closed_at"],
    }
    if stopping:
        answer |= {
            "stopped_now": told["closed_now"],
            "stopped_at": told["closed_at"] if stopped else None,
            "stopped_reason": (told["reason"] or None) if stopped else None,
        }
    return answer


def _texts(metadata: dict[str, Any]) -> dict[str, str]:
    """Metadata as a run keeps it: what is no text is written as JSON, what does not fit is left out."""
    kept: dict[str, str] = {}
    for name, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if 0 < len(name) <= 64 and len(text) <= TEXT_MAX and len(kept) < METADATA_MAX:
            kept[name] = text
    return kept
