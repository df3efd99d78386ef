"""Answers questions about usage from the rollups, and from nothing else; docs/metering.md."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from budgets.domain.usage import DIMENSIONS, SUMS, Bucket, Order, Question
from budgets.queries.bounded import Row, TookTooLong, limited, rows
from noburn.kit.problems import FieldError, Invalid

MILLISECONDS = 5_000

Key = tuple[Any, ...]

# Calls that were voided after they had been presumed leave nothing but zeros.
_ANYTHING = "sum(u.requests) <> 0 OR sum(u.cost_nano) <> 0"
_FIGURES = ", ".join(
    (
        "nb_usage_bounded(coalesce(sum(u.cost_nano), 0)) AS cost_nano",
        "nb_usage_bounded(coalesce(sum(u.presumed_nano), 0)) AS presumed_nano",
        *(f"coalesce(sum(u.{name}), 0)::bigint AS {name}" for name in SUMS),
        "round(sum(u.latency_ms)::numeric / nullif(sum(u.latencies), 0))::bigint AS latency_ms",
    )
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of rows, and what all rows add up to.

    A row has `bucket` (None with bucket=none), `names` by group, and its figures. Everything that was recorded before
    `complete_through` is in it; None while that is not known.
    """

    rows: list[Row]
    totals: Row
    complete_through: datetime | None


def key_of(question: Question, row: Row) -> list[str]:
    """A row's place in the order of the answer, as text for a cursor."""
    first = str(row["cost_nano"]) if question.order is Order.COST else row["bucket"].isoformat()
    return [first, *row["names"].values()]


def key_parsers(question: Question) -> list[Any]:
    """What reads each part of such a key from text."""
    return [_amount if question.order is Order.COST else _instant, *(_name for _ in question.groups)]


def ask(*, tenant_id: UUID, question: Question, after: Key | None, limit: int) -> Answer:
    """Answers a question: `limit` + 1 rows at most, from the one after `after` on.

    Raises Invalid for hours that are pruned, and for what cannot be added up in time.
    """
    try:
        with limited(milliseconds=MILLISECONDS):
            (cursor,) = rows("SELECT through_at, hours_from, rebuild_began_at FROM usage_cursor")
            if question.by_hours and question.since < cursor["hours_from"]:
                since = cursor["hours_from"].astimezone(UTC).isoformat().replace("+00:00", "Z")
                raise Invalid([FieldError("from", f"usage by the hour is kept since {since}")])
            condition, values = _condition(tenant_id, question)
            (totals,) = rows(f"SELECT {_FIGURES} FROM usage_rollups u WHERE {condition}", values)  # noqa: S608
            found = _page(question, condition, values, after, limit)
    except TookTooLong as error:
        message = f"adding this up takes longer than {MILLISECONDS // 1000} s: ask for less time"
        raise Invalid([FieldError("from", message)]) from error
    # Sums are not whole while they are counted anew.
    through = cursor["through_at"] if cursor["rebuild_began_at"] is None else None
    return Answer(found, totals, through)


def _condition(tenant_id: UUID, question: Question) -> tuple[str, list[object]]:
    # Every value is a parameter; columns are those of DIMENSIONS.
    conditions = ["u.grain = %s", "u.tenant_id = %s", "u.bucket >= %s", "u.bucket < %s"]
    values: list[object] = [question.grain, tenant_id, question.since, question.until]
    for name, value in question.filters:
        conditions.append(f"u.{DIMENSIONS[name]} = %s")
        values.append(value)
    if question.tag_name:
        conditions.append("u.tag = %s")
        values.append(question.tag_name)
    if question.tag is not None:
        conditions.append("u.value = %s")
        values.append(question.tag[1])
    return " AND ".join(conditions), values


def _page(
    question: Question, condition: str, values: list[object], after: Key | None, limit: int
) -> list[Row]:
    names = [f"u.{DIMENSIONS.get(group, 'value')}" for group in question.groups]
    bucket, parameters = "%s::timestamptz", [question.since, *values]
    if question.bucket is Bucket.DAY and question.by_hours:
        bucket, parameters = "date_trunc('day', u.bucket, %s)", [question.zone, *values]
    elif question.bucket is not Bucket.NONE:
        bucket, parameters = "u.bucket", list(values)
    columns = "".join(f", {name} AS g{at}" for at, name in enumerate(names))
    groups = ", ".join(str(at + 1) for at in range(len(names) + 1))
    by_cost = question.order is Order.COST
    key = ["-s.cost_nano" if by_cost else "s.bucket", *(f"s.g{at}" for at in range(len(names)))]
    later = "true"
    if after is not None:
        later = f"({', '.join(key)}) > ({', '.join(['%s'] * len(key))})"
        parameters += [-after[0] if by_cost else after[0], *after[1:]]
    found = rows(
        f"""SELECT * FROM (SELECT {bucket} AS bucket{columns}, {_FIGURES} FROM usage_rollups u
            WHERE {condition} GROUP BY {groups} HAVING {_ANYTHING}) AS s
        WHERE {later} ORDER BY {", ".join(key)} LIMIT %s""",  # noqa: S608
        [*parameters, limit + 1],
    )
    for row in found:
        row["names"] = {group: row.pop(f"g{at}") for at, group in enumerate(question.groups)}
    return found


def _amount(text: str) -> int:
    amount = int(text)
    if abs(amount) >= 2**62:
        raise ValueError(text)
    return amount


def _name(text: str) -> str:
    if "\x00" in text:
        raise ValueError(text)
    return text


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at
