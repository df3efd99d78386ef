"""What customers used, by spans and models, with approved presumptions among it, as of one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from django.db import OperationalError, connection

from billing.domain.charging import Model, Use, use_of_sums
from billing.queries.approvals import approved_by_model
from budgets.queries.billable import KINDS, Span, pieces, use_by_model
from budgets.queries.bounded import TookTooLong, limited, rows

MILLISECONDS = 10_000

FIGURES = ("cost_nano", "requests", *KINDS)


class HoursPruned(Exception):
    """The sums of hours go back to `hours_from` alone; whole days go back for ever."""

    def __init__(self, hours_from: datetime) -> None:
        super().__init__(f"hours before {hours_from.isoformat()} are pruned")
        self.hours_from = hours_from


@dataclass(frozen=True, kw_only=True, slots=True)
class Used:
    """What was used, by customer and number of span; what is presumed besides; until when everything is counted."""

    uses: dict[tuple[str, int], dict[Model, Use]]
    presumed: dict[str, int]
    complete_through: datetime | None


def _sort_in_memory() -> None:
    """Lets sums of a hundred thousand customers be made without a file."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")


@contextmanager
def bounded(milliseconds: int) -> Iterator[None]:
    """Limits what is read in time, also in a transaction of the caller's, which is lost then. Raises TookTooLong.

    A caller that has less time keeps its own limit.
    """
    if not connection.in_atomic_block:
        with limited(milliseconds=milliseconds):
            _sort_in_memory()
            yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'")
        (before,) = cursor.fetchone()
        # 0: none.
        milliseconds = min(int(milliseconds), before) if before else int(milliseconds)
        cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}")
    try:
        yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise TookTooLong(f"no answer in {milliseconds} ms") from error
        raise
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {before}")


def used(*, tenant_id: UUID, customers: Sequence[str], spans: Sequence[Span]) -> Used:
    """Reads what customers used. Raises HoursPruned, TookTooLong."""
    found = pieces(spans)
    sums, values = use_by_model(tenant_id=tenant_id, customers=customers, found=found)
    approved, more = approved_by_model(tenant_id=tenant_id, customers=customers, spans=spans)
    halves = f"{sums} UNION ALL {approved}" if sums else approved
    # One statement: sums and approvals are of one moment, in whatever transaction.
    with bounded(MILLISECONDS):
        read = rows(
            f"""SELECT c.hours_from, CASE WHEN c.rebuild_began_at IS NULL THEN c.through_at END AS through_at, s.*
            FROM usage_cursor c LEFT JOIN ({halves}) AS s ON true""",  # noqa: S608
            [*values, *more],
        )
    if found.hours_from is not None and found.hours_from < read[0]["hours_from"]:
        raise HoursPruned(read[0]["hours_from"])
    figures: dict[tuple[str, int], dict[Model, dict[str, int]]] = {}
    presumed: dict[str, int] = {}
    for row in read:
        if row["customer"] is None:
            continue
        models = figures.setdefault((row["customer"], row["span"]), {})
        sum_ = models.setdefault((row["provider"], row["model"]), dict.fromkeys(FIGURES, 0))
        for name in FIGURES:
            sum_[name] += row[name]
        presumed[row["customer"]] = presumed.get(row["customer"], 0) + row["presumed_nano"]
    return Used(
        uses={
            place: {model: use_of_sums(**sum_) for model, sum_ in models.items()}
            for place, models in figures.items()
        },
        presumed={customer: max(0, nano) for customer, nano in presumed.items()},
        complete_through=read[0]["through_at"],
    )
