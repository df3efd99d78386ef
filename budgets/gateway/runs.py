"""POST /v1/runs, /v1/runs/{id}/stop, /v1/runs/{id}/end: from a request to a run, and to its answer. docs/runs.md."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from budgets.domain.policy import KeyRecord
from budgets.domain.pricing_rates import MAX_COUNT
from budgets.domain.runs import (
    DEPTH_MAX,
    IDLE_SECONDS_DEFAULT,
    IDLE_SECONDS_MAX,
    IDLE_SECONDS_MIN,
    METADATA_MAX,
    OPEN_MAX,
    SECONDS_MAX,
    RunRecord,
    RunState,
)
from budgets.gateway.preflight import refusal
from budgets.gateway.request import Request
from budgets.gateway.wire import Amount, Label, Name, ignored, read
from budgets.services.runs import Closed, NewRun, Runs
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.clock import wire_time
from noburn.kit.money import LIMIT_NANO_MAX, BadAmount, from_usd, to_usd
from noburn.kit.problems import FieldError, ProblemError, problem

RUNS_PATH: Final = "/v1/runs"
ENDINGS: Final = {"/stop": RunState.STOPPED.value, "/end": RunState.ENDED.value}
RUN_CHARS_MAX: Final = 200


class RunCaps(msgspec.Struct, frozen=True):
    """What a run and all below it may use at most; all optional."""

    usd: Amount | None = None
    steps: Annotated[int, Meta(ge=0, le=MAX_COUNT)] | None = None
    seconds: Annotated[int, Meta(ge=1, le=SECONDS_MAX)] | None = None
    depth: Annotated[int, Meta(ge=0, le=DEPTH_MAX)] | None = None


class RunSubject(msgspec.Struct, frozen=True):
    """Who a run is for; for lists, and its project for keys of one project."""

    project: Label | None = None
    customer: Label | None = None
    user: Label | None = None


class RunStart(msgspec.Struct, frozen=True):
    """POST /v1/runs."""

    run: Name | None = None
    parent: Name | None = None
    caps: RunCaps = RunCaps()
    subject: RunSubject = RunSubject()
    idle_seconds: Annotated[int, Meta(ge=IDLE_SECONDS_MIN, le=IDLE_SECONDS_MAX)] = IDLE_SECONDS_DEFAULT
    metadata: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=64)], Label], Meta(max_length=METADATA_MAX)
    ] = {}


class RunClose(msgspec.Struct, frozen=True):
    """POST /v1/runs/{id}/stop and /end: why, for people."""

    reason: Label = ""


def closing_of(path: str) -> tuple[str, str] | None:
    """The run that a path closes and what it becomes; None if the path does not close one."""
    for ending, state in ENDINGS.items():
        if path.startswith(f"{RUNS_PATH}/") and path.endswith(ending):
            run = path.removeprefix(f"{RUNS_PATH}/").removesuffix(ending)
            return (run, state) if run else None
    return None


def handles_run(path: str, method: str) -> bool:
    """Whether a request about runs is the gateway's."""
    return (path == RUNS_PATH and method == "POST") or closing_of(path) is not None


async def start_run(
    request: Request, runs: Runs, snapshot: Snapshot, key: KeyRecord, *, pepper: bytes
) -> dict[str, Any]:
    """Starts a run. A start that a parent's cap or end stands in the way of is refused. Raises ProblemError."""
    idempotency_key = request.idempotency_key
    wanted, unknown = read(request.body or b"{}", RunStart)
    warnings = ignored(unknown)
    new = _new(wanted, request, idempotency_key, snapshot, key, pepper)
    started = await runs.start(snapshot.policy.tenant_id, new)
    match started.outcome:
        case "conflict":
            detail = f"Run {new.run!r} was started with other contents, or stopped before it was started."
            raise ProblemError(problem("idempotency-conflict", detail=detail))
        case "too_many":
            detail = f"{OPEN_MAX:,} runs of this tenant are open; end those that are over."
            raise ProblemError(problem("too-many-runs", detail=detail))
        case "no_parent":
            error = FieldError("parent", f"no run {new.parent!r}; start it first")
            raise ProblemError(
                problem("invalid-request", detail="Some fields are not valid.", errors=[error])
            )
    record = started.record
    if record is None:
        raise RuntimeError(f"a start answered {started.outcome!r} and no run")
    if started.outcome == "parent_over":
        if record.over:
            return refusal(
                "run_stopped", f"run {record.run!r} above this one is over", {"run": {"id": record.run}}
            )
        fields = {"id": record.ends_by, "cap": "seconds", "ended_at": wire_time(record.ends or 0)}
        return refusal("run_limit", f"the time of run {record.ends_by!r} is over", {"run": fields})
    if started.outcome == "depth":
        return refusal(
            "run_limit",
            f"below run {record.run!r} no further run is let through",
            {"run": {"id": record.run, "cap": "depth"}},
        )
    return {
        "decision": "allow",
        **_shown(record, started.shown),
        "replayed": started.outcome == "replayed",
        "warnings": warnings,
    }


def _new(
    wanted: RunStart,
    request: Request,
    idempotency_key: str,
    snapshot: Snapshot,
    key: KeyRecord,
    pepper: bytes,
) -> NewRun:
    errors: list[FieldError] = []
    cap_nano = None
    if wanted.caps.usd is not None:
        try:
            cap_nano = from_usd(wanted.caps.usd, field="caps.usd", max_nano=LIMIT_NANO_MAX)
        except BadAmount as error:
            errors.append(FieldError("caps.usd", str(error)))
    project = wanted.subject.project or key.project or "default"
    if project not in snapshot.projects:
        errors.append(FieldError("subject.project", f"no project {project!r}; create it first"))
    elif key.project and project != key.project:
        errors.append(FieldError("subject.project", f"this key belongs to project {key.project!r}"))
    if wanted.run is not None and (wanted.run != wanted.run.strip() or not wanted.run.isprintable()):
        errors.append(FieldError("run", "must be printable, without blanks at its ends"))
    if wanted.parent is not None and wanted.parent == wanted.run:
        errors.append(FieldError("parent", "a run is not its own parent"))
    if errors:
        raise ProblemError(problem("invalid-request", detail="Some fields are not valid.", errors=errors))
    tenant_id = snapshot.policy.tenant_id
    return NewRun(
        # Made of the key, so that a repeated start finds the run that the first one made.
        run=wanted.run or _run_id(tenant_id, idempotency_key, pepper),
        digest=hashlib.blake2b(request.body, digest_size=16).hexdigest(),
        parent=wanted.parent,
        project=project,
        customer=wanted.subject.customer or "",
        user=wanted.subject.user or "",
        metadata=wanted.metadata,
        cap_nano=cap_nano,
        cap_steps=wanted.caps.steps,
        cap_seconds=wanted.caps.seconds,
        cap_depth=wanted.caps.depth,
        idle_seconds=wanted.idle_seconds,
    )


def _run_id(tenant_id: UUID, idempotency_key: str, pepper: bytes) -> str:
    digest = hmac.digest(pepper, b"run|" + tenant_id.bytes + idempotency_key.encode(), hashlib.sha256)
    return ids.encode(ids.RUN, UUID(bytes=digest[:16]))


async def close_run(
    request: Request, runs: Runs, snapshot: Snapshot, key: KeyRecord, *, run: str, state: str
) -> dict[str, Any]:
    """Stops or ends a run and all below it. Raises ProblemError."""
    _ = request.idempotency_key
    wanted, unknown = read(request.body or b"{}", RunClose)
    if len(run) > RUN_CHARS_MAX or "\0" in run:
        raise ProblemError(problem("not-found", detail="There is no such run."))
    closed = await runs.close(
        snapshot.policy.tenant_id,
        run,
        state=state,
        reason=wanted.reason,
        by=snapshot.key_ids[key.key_id],
        project=key.project,
    )
    if closed is None:
        raise ProblemError(problem("not-found", detail=f"There is no run {run!r}."))
    return closed_answer(closed, warnings=ignored(unknown))


def closed_answer(closed: Closed, *, warnings: list[str]) -> dict[str, Any]:
    """What is told of a run that is over: as it is, and what it used."""
    return {
        **_shown(closed.record, closed.shown),
        "closed_now": closed.now,
        "runs_closed": 1 + closed.below if closed.now else 0,
        "summary": summary_fields(closed.summary),
        "warnings": warnings,
    }


def summary_fields(summary: dict[str, Any]) -> dict[str, Any]:
    """What a run and all below it used so far, as the wire shows it."""
    return {
        "calls": int(summary["calls"]),
        "cost_usd": to_usd(int(summary["cost_nano"])),
        "tokens": int(summary["tokens"]),
        "runs": int(summary["runs"]),
        "models": [
            {
                "model": row["model"],
                "calls": int(row["calls"]),
                "cost_usd": to_usd(int(row["cost_nano"])),
                "tokens": int(row["tokens"]),
            }
            for row in summary["models"]
        ],
        "refused": {reason: int(calls) for reason, calls in sorted(summary["refused"].items())},
    }


def _shown(record: RunRecord, shown: dict[str, Any]) -> dict[str, Any]:
    closed = shown["closed"]
    return {
        "run": record.run,
        "state": record.state.value,
        "reason": record.reason,
        "parent": shown["parent"],
        "caps": {
            "usd": None if shown["cap_nano"] is None else to_usd(shown["cap_nano"]),
            "steps": shown["cap_steps"],
            "seconds": shown["cap_seconds"],
            "depth": shown["cap_depth"],
        },
        "started_at": wire_time(shown["started"]),
        "ends_at": None if record.ends is None else wire_time(record.ends),
        "closed_at": None if closed is None else wire_time(closed),
    }
