"""The figures on the operators' front page. What cannot be had in time is None, never zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from budgets.domain.escrow import SHARDS
from budgets.queries import epochs as query
from budgets.queries.bounded import Row, TookTooLong, limited

FIGURE_MS = 1_500

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class MoneyPath:
    """How the escrow stands: shards with a valid epoch; stranded and overrun by metric, over current windows."""

    open_shards: int | None
    shards: int
    stranded: list[Row] | None
    overrun: list[Row] | None


def money_path() -> MoneyPath:
    """Reads each figure for at most FIGURE_MS."""
    return MoneyPath(
        open_shards=in_time(query.open_shards),
        shards=SHARDS,
        stranded=in_time(query.stranded_totals),
        overrun=in_time(query.overrun_totals),
    )


def in_time(read: Callable[[], T]) -> T | None:
    """What `read` returns, or None when the database did not answer within FIGURE_MS."""
    try:
        with limited(milliseconds=FIGURE_MS):
            return read()
    except TookTooLong:
        return None
