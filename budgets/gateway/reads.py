"""GET /v1/remaining: who the question is about, and the answer."""

from __future__ import annotations

from typing import Any

from budgets.domain.demands import Attribution
from budgets.domain.policy import KeyRecord
from budgets.gateway.preflight import budget_fields
from budgets.services.holds import Standing
from budgets.services.snapshots import Snapshot
from noburn.kit import ids
from noburn.kit.problems import FieldError, ProblemError, problem

NAMES = ("project", "customer", "user", "run", "plan", "provider", "model")


def attribution_of(query: dict[str, str], snapshot: Snapshot, key: KeyRecord) -> Attribution:
    """Who the question is about. Raises ProblemError naming every parameter that is not one."""
    errors = [FieldError(name, "is not a parameter") for name in query if name not in NAMES]
    errors += [
        FieldError(name, "at most 200 characters") for name, value in query.items() if len(value) > 200
    ]
    errors += [FieldError(name, "must not contain NUL") for name, value in query.items() if "\0" in value]
    project = query.get("project") or key.project or "default"
    if project not in snapshot.projects:
        errors.append(FieldError("project", f"no project {project!r}"))
    elif key.project and project != key.project:
        errors.append(FieldError("project", f"this key belongs to project {key.project!r}"))
    if errors:
        raise ProblemError(problem("invalid-request", detail="Some parameters are not valid.", errors=errors))
    given = {name: query.get(name, "") for name in NAMES}
    return Attribution(**{**given, "project": project}, api_key=ids.encode("key", key.key_id), tags={})


def remaining_answer(standings: list[Standing]) -> dict[str, Any]:
    """Every budget that such a call falls under, the tightest share first."""
    ordered = sorted(standings, key=lambda s: max(0, s.remaining) / s.limit if s.limit else 0)
    return {"budgets": [budget_fields(standing) for standing in ordered]}
