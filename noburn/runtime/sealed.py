"""Every column that holds sealed text, and how all of it is sealed again when a new key comes first.

Apps name their columns at their start; a test finds any that they forgot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Model

from noburn.kit.sealing import Sealer, Unreadable

BATCH: Final = 200
Seal = Callable[[str], str]
Over = Callable[[Any, Seal], Any]
"""Returns a column's value with every sealed text in it replaced."""


@dataclass(frozen=True)
class SealedColumn:
    """One column. Its rows are gone through by primary key, which never changes."""

    model: type[Model]
    column: str
    over: Over

    @property
    def name(self) -> str:
        """As the database names it."""
        return f"{self.model._meta.db_table}.{self.column}"


@dataclass
class Progress:
    """How far one column is: rows looked at, rows sealed again, and rows that changed meanwhile and come next time."""

    column: str
    seen: int = 0
    sealed: int = 0
    missed: int = 0
    unreadable: list[str] = field(default_factory=list)


_columns: dict[str, SealedColumn] = {}


def register(*columns: SealedColumn) -> None:
    """Names columns; naming one again changes nothing."""
    _columns.update({column.name: column for column in columns})


def columns() -> list[SealedColumn]:
    """Every column, by name."""
    return [_columns[name] for name in sorted(_columns)]


def text(value: Any, seal: Seal) -> Any:
    """The rule of a column that is one sealed text, or empty."""
    return seal(value) if value else value


def texts(value: Any, seal: Seal) -> Any:
    """The rule of a column that is a list of them."""
    return [seal(one) for one in value or []]


def old_rows(sealer: Sealer) -> dict[str, int]:
    """How many rows of each column hold text that the first key does not open; columns without any are left out."""
    found: dict[str, int] = {}
    for column in columns():
        for _, value in _rows(column):
            old: list[str] = []
            column.over(value, lambda sealed, old=old: old.append(sealed) or sealed)  # type: ignore[misc]
            if any(not sealer.is_newest(sealed) for sealed in old):
                found[column.name] = found.get(column.name, 0) + 1
    return found


def reseal(sealer: Sealer) -> Iterator[Progress]:
    """Seals everything with the first key, and tells after every batch how far it is.

    May be broken off at any point and run again: what the first key opens is left alone. A row that somebody changes
    at the same moment is not overwritten. A text that no key opens is named by its row and left as it is.
    """

    def anew(sealed: str) -> str:
        return sealed if sealer.is_newest(sealed) else sealer.reseal(sealed)

    for column in columns():
        progress = Progress(column.name)
        for pk, value in _rows(column):
            progress.seen += 1
            try:
                fresh = column.over(value, anew)
            except Unreadable:
                progress.unreadable.append(str(pk))
                continue
            if fresh != value:
                same = column.model._default_manager.filter(pk=pk, **{column.column: value})
                if same.update(**{column.column: fresh}):
                    progress.sealed += 1
                else:
                    progress.missed += 1
            if progress.seen % BATCH == 0:
                yield progress
        yield progress


def _rows(column: SealedColumn) -> Iterator[tuple[Any, Any]]:
    """Every row's key and value, read by the batch."""
    last: Any = None
    while True:
        rows = column.model._default_manager.order_by("pk").values_list("pk", column.column)
        if last is not None:
            rows = rows.filter(pk__gt=last)
        batch = list(rows[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        last = batch[-1][0]
