"""Settled calls with what they used, newest first: what a comparison prices call by call."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

import msgspec

from budgets.domain.pricing_rates import Usage
from budgets.domain.usage import DIMENSIONS, Question
from budgets.queries.bounded import TookTooLong, limited, rows

MILLISECONDS = 5_000
CALLS_MAX = 20_000
"""The most calls that are looked at one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettledCall:
    """One settled call as it stands: re-ratings are in its cost, and `price_id` names the newest price."""

    names: tuple[str, ...]
    placed_at: datetime
    provider: str
    model: str
    reported_model: str
    price_id: str
    usage: Usage | None
    cost_nano: int
    rerated: bool


def settled_calls(*, tenant_id: UUID, question: Question, limit: int = CALLS_MAX) -> list[SettledCall] | None:
    """The newest `limit` calls that a question is about; None if finding them takes too long.

    `names` are what the question's groups have. `usage` is None where nothing was counted, or it cannot be read.
    """
    columns = "".join(
        f", l.tags ->> %s AS g{at}" if group.startswith("tag:") else f", l.{DIMENSIONS[group]} AS g{at}"
        for at, group in enumerate(question.groups)
    )
    parameters: list[object] = [
        group.removeprefix("tag:") for group in question.groups if group.startswith("tag:")
    ]
    conditions = ["l.tenant_id = %s", "l.placed_at >= %s", "l.placed_at < %s"]
    # The months once more, in the words by which partitions are left out.
    conditions.append("l.placed_month BETWEEN %s AND %s")
    parameters += [
        tenant_id,
        question.since,
        question.until,
        month_of(question.since),
        month_of(question.until),
    ]
    for name, value in question.filters:
        conditions.append(f"l.{DIMENSIONS[name]} = %s")
        parameters.append(value)
    if question.tag is not None:
        conditions.append("l.tags ->> %s = %s")
        parameters += question.tag
    elif question.tag_name:
        conditions.append("jsonb_exists(l.tags, %s)")
        parameters.append(question.tag_name)
    try:
        with limited(milliseconds=MILLISECONDS):
            found = rows(
                f"""SELECT l.*, r.cost_nano, r.reratings > 0 AS rerated, coalesce(p.price_id, l.own_price_id) AS price_id
                FROM (SELECT l.hold_id, l.placed_month, l.revision, l.placed_at, l.provider, l.model, l.reported_model,
                        l.price_id AS own_price_id, l.usage::text AS usage{columns}
                    FROM ledger_entries l WHERE l.kind = 'settled' AND {" AND ".join(conditions)}
                    ORDER BY l.placed_at DESC, l.hold_id DESC LIMIT %s) AS l
                JOIN hold_resolutions r ON r.hold_id = l.hold_id AND r.placed_month = l.placed_month
                    AND r.state = 'settled'
                LEFT JOIN ledger_entries p ON p.hold_id = l.hold_id AND p.placed_month = l.placed_month
                    AND p.revision = r.revision AND r.revision <> l.revision
                ORDER BY l.placed_at DESC, l.hold_id DESC""",  # noqa: S608
                [*parameters, limit],
            )
    except TookTooLong:
        return None
    return [
        SettledCall(
            names=tuple(row[f"g{at}"] for at in range(len(question.groups))),
            placed_at=row["placed_at"],
            provider=row["provider"],
            model=row["model"],
            reported_model=row["reported_model"],
            price_id=row["price_id"],
            usage=read_usage(row["usage"]),
            cost_nano=row["cost_nano"],
            rerated=row["rerated"],
        )
        for row in found
    ]


def read_usage(text: str | None) -> Usage | None:
    """Reads what the ledger has of a usage; None where nothing was counted, or it cannot be read."""
    if text is None:
        return None
    try:
        usage = msgspec.json.decode(text, type=Usage)
    except msgspec.ValidationError:
        return None
    return None if usage == Usage(service_tier=usage.service_tier) else usage


def month_of(at: datetime) -> date:
    """The month by which the ledger is partitioned."""
    return at.astimezone(UTC).date().replace(day=1)
