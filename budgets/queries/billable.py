"""What customers used, by the hour from one time to another, from the sums of usage: what billing prices.

A whole day is read from the sums of days, which are kept for ever; the rest from the sums of hours, which are pruned.
Presumed calls are left out of costs and requests; their tokens are in no sum by kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from budgets.domain.usage import DAY, SUMS
from budgets.queries.bounded import rows

Span = tuple[datetime, datetime]
"""[starts_at, ends_at), full hours."""

KINDS: Final = tuple(name for name in SUMS if name not in ("requests", "errors", "tokens"))
"""The counts by kind that are added up, besides requests."""

FIGURES: Final = ", ".join(
    (
        "nb_usage_bounded(sum(u.cost_nano::numeric - u.presumed_nano)) AS cost_nano",
        "nb_usage_bounded(sum(u.presumed_nano)) AS presumed_nano",
        "sum(u.requests - u.presumed_requests)::bigint AS requests",
        *(f"sum(u.{name})::bigint AS {name}" for name in KINDS),
    )
)
"""What is added up of rollups `u`: `cost_nano` and `requests` of settled calls, `presumed_nano` of the others."""

Statement = tuple[str, list[object]]
"""SQL and its values."""

Piece = tuple[int, datetime, datetime]
"""The number of a span, and a part of it."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Spans as the sums can be read: by hours and by days."""

    hours: tuple[Piece, ...]
    days: tuple[Piece, ...]

    @property
    def hours_from(self) -> datetime | None:
        """The earliest hour that is needed by itself."""
        return min((since for _, since, _ in self.hours), default=None)


def pieces(spans: Sequence[Span]) -> Pieces:
    """Cuts spans into whole days (UTC) and the hours beside them."""
    hours: list[Piece] = []
    days: list[Piece] = []
    for number, (since, until) in enumerate(spans):
        midnight = _midnight(since)
        first, last = midnight if midnight == since else midnight + DAY, _midnight(until)
        if first >= last:
            hours.append((number, since, until))
            continue
        days.append((number, first, last))
        hours += [(number, a, b) for a, b in ((since, first), (last, until)) if a < b]
    return Pieces(tuple(hours), tuple(days))


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def use_by_model(*, tenant_id: UUID, customers: Sequence[str] | None, found: Pieces) -> Statement:
    """Returns a statement for rows of `span`, `customer`, `provider`, `model` and FIGURES, for some customers or all.

    There may be two rows of one name: one from days, one from the hours beside them.
    """
    named = "" if customers is None else "AND u.customer = ANY (%s)"
    halves: list[str] = []
    values: list[object] = []
    for grain, parts in (("hours", found.hours), ("days", found.days)):
        if parts:
            # A span after the other, so that each finds its rows by the index of customers.
            halves.append(
                f"""SELECT p.span, s.* FROM unnest(%s::integer[], %s::timestamptz[], %s::timestamptz[])
                    AS p (span, since, until)
                CROSS JOIN LATERAL (SELECT u.customer, u.provider, u.model, {FIGURES} FROM usage_rollups u
                    WHERE u.grain = '{grain}' AND u.tenant_id = %s {named}
                        AND u.bucket >= p.since AND u.bucket < p.until GROUP BY 1, 2, 3) AS s"""  # noqa: S608
            )
            values += [*(list(column) for column in zip(*parts, strict=True)), tenant_id]
            values += [] if customers is None else [list(customers)]
    return " UNION ALL ".join(halves), values


def through() -> tuple[datetime | None, datetime]:
    """Returns until when everything is counted (None: not known), and from when on there are sums of hours."""
    (cursor,) = rows("SELECT through_at, hours_from, rebuild_began_at FROM usage_cursor")
    return (cursor["through_at"] if cursor["rebuild_began_at"] is None else None), cursor["hours_from"]


def models_of(*, tenant_id: UUID, since: datetime, until: datetime, limit: int) -> list[tuple[str, str]]:
    """Returns which models a tenant used on the days that [since, until) touches, at most `limit` of them."""
    found = rows(
        """SELECT DISTINCT u.provider, u.model FROM usage_rollups u
        WHERE u.grain = 'total_days' AND u.tenant_id = %s AND u.bucket >= %s AND u.bucket < %s LIMIT %s""",
        [tenant_id, _midnight(since), until, limit],
    )
    return [(row["provider"], row["model"]) for row in found]


def customers_of(*, tenant_id: UUID, since: datetime, until: datetime, after: str, limit: int) -> list[str]:
    """Returns which customers used anything on the days that [since, until) touches, by name, from behind `after` on."""
    # One step of the index for each customer: what lies between is passed over.
    found = rows(
        """WITH RECURSIVE step AS (
            (SELECT u.customer FROM usage_rollups u WHERE u.grain = 'days' AND u.tenant_id = %(tenant)s
                AND u.customer > %(after)s ORDER BY u.customer LIMIT 1)
            UNION ALL
            SELECT (SELECT u.customer FROM usage_rollups u WHERE u.grain = 'days' AND u.tenant_id = %(tenant)s
                AND u.customer > s.customer ORDER BY u.customer LIMIT 1)
            FROM step s WHERE s.customer IS NOT NULL)
        SELECT s.customer FROM step s WHERE s.customer IS NOT NULL AND EXISTS (
            SELECT FROM usage_rollups u WHERE u.grain = 'days' AND u.tenant_id = %(tenant)s
                AND u.customer = s.customer AND u.bucket >= %(since)s AND u.bucket < %(until)s)
        LIMIT %(limit)s""",
        {
            "tenant": tenant_id,
            "after": after,
            "since": _midnight(since),
            "until": until,
            "limit": limit,
        },
    )
    return [row["customer"] for row in found]
