"""What the checker noted last, for whoever watches: rows of verify_checks and verify_turns, and epochs by state."""

from __future__ import annotations

import json
from typing import Any

from django.db import connection

_CHECKS = """
SELECT part, extract(epoch FROM now() - finished_at)::float8, took_ms, looked_at, differences, behind, details
FROM verify_checks ORDER BY part
"""

_TURNS = """
SELECT coalesce(extract(epoch FROM now() - min(recounted_at)), 0)::float8, count(*) FILTER (WHERE recounted_at IS NULL)
FROM verify_turns
"""

_EPOCHS = "SELECT state, count(*) FROM epochs WHERE state <> 'closed' GROUP BY 1 ORDER BY 1"


def checks() -> list[dict[str, Any]]:
    """The last round of each part, with its age in seconds."""
    names = ("part", "age_seconds", "took_ms", "looked_at", "differences", "behind", "details")
    found = [dict(zip(names, row, strict=True)) for row in _rows(_CHECKS)]
    # Django leaves jsonb of its own cursors as text.
    return [{**row, "details": json.loads(row["details"])} for row in found]


def oldest_turn() -> tuple[float, int]:
    """Seconds since the tenant that waited longest was recomputed from nothing, and tenants that never were in time."""
    ((seconds, never),) = _rows(_TURNS)
    return float(seconds), int(never)


def epochs() -> dict[str, int]:
    """Shards by the state of their epoch."""
    return dict(_rows(_EPOCHS))


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())
