"""Runs and guards in the document: schemas of requests and answers, and examples."""

from __future__ import annotations

from typing import Any, Final

from budgets.domain.guards import SCOPES
from budgets.domain.policy import GuardKind
from budgets.domain.runs import CAP_NAMES
from budgets.gateway.runs import RunCaps, RunClose, RunStart, RunSubject
from noburn.kit.openapi import Schema, nullable, record, ref

SHAPES: Final = (RunStart, RunClose, RunCaps, RunSubject)

WORDS: Final[dict[str, dict[str, str]]] = {
    "RunStart": {
        "": "A run to be started.",
        "run": "An id of your own; without one it is made of the Idempotency-Key.",
        "parent": "The run that this one is below.",
        "caps": "What it and all below it may use at most.",
        "subject": "Who it is for, for lists; calls say for themselves.",
        "idle_seconds": "So long without a call, and it is ended.",
        "metadata": "Texts by name, for you.",
    },
    "RunCaps": {
        "": "Caps of a run; each is optional.",
        "usd": "The most that its calls may cost.",
        "steps": "The most calls.",
        "seconds": "How long it may go on.",
        "depth": "How many levels of runs may be below it.",
    },
    "RunSubject": {
        "": "Who a run is for.",
        "project": "An existing project; without one, the key's, else `default`.",
        "customer": "Your customer.",
        "user": "The person who asks.",
    },
    "RunClose": {"": "Why a run is over.", "reason": "For people; it is shown with the run."},
}

TEXT: Final[Schema] = {"type": "string"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
FLAG: Final[Schema] = {"type": "boolean"}
USD, TIME = ref("Usd"), ref("Time")
WARNINGS: Final[Schema] = {"type": "array", "items": TEXT}

CAPS: Final[dict[str, Any]] = {"usd": "2", "steps": 40, "seconds": 600, "depth": 2}
RUN: Final[dict[str, Any]] = {
    "run": "run_1fy6shh8q1c5k9s0m3w7x4y1z2",
    "state": "open",
    "reason": "",
    "parent": None,
    "caps": CAPS,
    "started_at": "2026-11-22T12:00:00.000Z",
    "ends_at": "2026-11-22T12:10:00.000Z",
    "closed_at": None,
}
STARTS: Final[dict[str, Any]] = {
    "run": {
        "summary": "A run with every cap",
        "value": {"caps": CAPS, "subject": {"customer": "acme"}, "metadata": {"agent": "researcher"}},
    },
}
STARTED: Final[dict[str, Any]] = {
    "started": {
        "summary": "The run",
        "value": {"decision": "allow", **RUN, "replayed": False, "warnings": []},
    }
}
CLOSES: Final[dict[str, Any]] = {"why": {"summary": "With a reason", "value": {"reason": "it went astray"}}}
CLOSED: Final[dict[str, Any]] = {
    "closed": {
        "summary": "The run, and what it used",
        "value": {
            **RUN,
            "state": "stopped",
            "reason": "it went astray",
            "closed_at": "2026-11-22T12:04:00.000Z",
            "closed_now": True,
            "runs_closed": 1,
            "summary": {
                "calls": 1,
                "cost_usd": "0.84",
                "tokens": 180_400,
                "runs": 1,
                "models": [{"model": "gpt-4o", "calls": 1, "cost_usd": "0.84", "tokens": 180_400}],
                "refused": {"run_limit": 1},
            },
            "warnings": [],
        },
    }
}


def _run() -> dict[str, Schema]:
    caps = {
        "usd": nullable(USD),
        "steps": nullable(COUNT),
        "seconds": nullable(COUNT),
        "depth": nullable(COUNT),
    }
    return {
        "run": {**TEXT, "description": "As calls name it in `subject.run`."},
        "state": {"type": "string", "enum": ["open", "ended", "stopped"]},
        "reason": {**TEXT, "description": "Why it is over."},
        "parent": nullable(TEXT),
        "caps": record("Caps; null: no such cap.", caps),
        "started_at": TIME,
        "ends_at": {**nullable(TIME), "description": "When its seconds, or those of a run above, are over."},
        "closed_at": nullable(TIME),
    }


def _constant(value: str) -> Schema:
    return {"type": "string", "enum": [value]}


def _which_run(needed: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    return record("The run that refuses: the call's, or one above it.", needed, optional)


def answers() -> dict[str, Schema]:
    """What requests about runs are answered, by name."""
    model = {"model": TEXT, "calls": COUNT, "cost_usd": USD, "tokens": COUNT}
    return {
        "RunAnswer": {
            "description": "The run, or the refusal of a run above it.",
            "oneOf": [ref("RunStarted"), ref("RunLimit"), ref("RunStopped")],
        },
        "RunStarted": record(
            "The run.",
            {"decision": _constant("allow"), **_run(), "replayed": FLAG, "warnings": WARNINGS},
        ),
        "RunClosed": record(
            "The run, and what it used.",
            {
                **_run(),
                "closed_now": {**FLAG, "description": "Whether this request closed it."},
                "runs_closed": {**COUNT, "description": "How many runs that were, with those below."},
                "summary": ref("RunSummary"),
                "warnings": WARNINGS,
            },
        ),
        "RunSummary": record(
            "What a run and all below it used so far.",
            {
                "calls": COUNT,
                "cost_usd": USD,
                "tokens": COUNT,
                "runs": COUNT,
                "models": {"type": "array", "items": record("What one model was used for.", model)},
                "refused": {
                    "type": "object",
                    "additionalProperties": COUNT,
                    "description": "Refusals by reason.",
                },
            },
        ),
    }


def refusals(refused: dict[str, Schema]) -> dict[str, Schema]:
    """Refusals by quotas, runs and guards, by name; `refused` is what a budget's refusal says."""
    deny = {"decision": _constant("deny")}
    return {
        "QuotaExceeded": record(
            "The call does not fit into the quota of its plan.",
            {
                **deny,
                "reason": _constant("quota_exceeded"),
                **refused,
                "plan": TEXT,
                "upgrade_suggested": {**nullable(TEXT), "description": "The plan to suggest; null: none."},
            },
        ),
        "RunLimit": record(
            "A cap of the run, or of one above it; by a cap of USD or steps with all that a budget's refusal says.",
            {
                **deny,
                "reason": _constant("run_limit"),
                "run": _which_run(
                    {"cap": {"type": "string", "enum": [*CAP_NAMES.values(), "seconds", "depth"]}},
                    {"id": TEXT, "ended_at": TIME},
                ),
            },
            {**refused, "detail": TEXT, "guard": ref("GuardNamed")},
        ),
        "RunStopped": record(
            "The run was stopped, or has ended.",
            {
                **deny,
                "reason": _constant("run_stopped"),
                "detail": TEXT,
                "run": record("The run.", {"id": TEXT}),
            },
            {"warnings": WARNINGS},
        ),
        "GuardTripped": record(
            "A guard stopped the call.",
            {
                **deny,
                "reason": {"type": "string", "enum": ["loop_detected", "velocity", "call_too_large"]},
                "detail": {**TEXT, "description": "What passed the limit."},
                "guard": ref("GuardNamed"),
                "warnings": WARNINGS,
            },
        ),
        "GuardNamed": record(
            "The guard that tripped, and whose calls it watched.",
            {
                "id": TEXT,
                "name": TEXT,
                "kind": {"type": "string", "enum": [kind.value for kind in GuardKind]},
                "scope": {"type": "string", "enum": [scope.value for scope in SCOPES]},
                "subject": TEXT,
            },
        ),
    }
