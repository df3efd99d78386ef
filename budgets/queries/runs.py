"""What a run and all below it used, as its page and its tenant's API show it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from budgets.queries.bounded import rows


def run_summary(*, tenant_id: UUID, run: str) -> dict[str, Any]:
    """Calls, cost, tokens, models and refusals of a run and all below it, so far; sql/runs.sql tells the shape."""
    found = rows("SELECT nb_run_summary(%s, %s) AS summary", [tenant_id, run])
    # Django's connection gives JSON as text.
    summary: dict[str, Any] = json.loads(found[0]["summary"])
    return summary
