"""Tables: which columns sort, in which order, and which page of rows. Pages are by keyset, as the API's are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.http import QueryDict

from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.pages import cut, read_page

SORT: Final = "sort"
CURSOR: Final = "cursor"
ROWS_DEFAULT: Final = 50

M = TypeVar("M", bound=Model)


class BadSort(Invalid):
    """A `sort` that names no column which sorts."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `sort` names the field to sort by, which is never null; `read` makes its value from text.

    Sorting by `pk` is by time of making. `numeric` columns stand at the end of their cells.
    """

    name: str
    label: str
    sort: str = ""
    read: Callable[[str], Any] = str
    numeric: bool = False
    hidden_label: bool = False
    """For a column of buttons, whose heading is for those who do not see it."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A column as a page shows it: `url` sorts by it; `order` is ascending, descending, or "" for none."""

    column: Column
    url: str
    order: str


@dataclass(frozen=True, slots=True)
class Table(Generic[M]):
    """A page of rows with what leads to others; addresses are query strings."""

    headings: list[Heading]
    rows: list[M]
    next_url: str
    first_url: str
    query: str

    @property
    def is_empty(self) -> bool:
        """Whether the whole table, as filtered, has no rows."""
        return not self.rows and not self.first_url


def table_of(
    rows: QuerySet[M], params: QueryDict, *, columns: Sequence[Column], sort: str, limit: int = ROWS_DEFAULT
) -> Table[M]:
    """Returns the page that a query string names; `sort` is the order without one: `-created` is newest first.

    Raises Invalid for a sort or cursor that cannot be used.
    """
    chosen = params.get(SORT, sort)
    by_name = {column.name: column for column in columns if column.sort}
    column, descending = by_name.get(chosen.removeprefix("-")), chosen.startswith("-")
    if column is None:
        raise BadSort(
            [FieldError(SORT, f"must be one of {', '.join(sorted(by_name))}, with - for the last first")]
        )
    by_key = column.sort == "pk"
    asked = {name: value for name, value in params.items() if name in (CURSOR, "limit")}
    wanted = read_page(
        {"limit": str(limit), **{n: str(v) for n, v in asked.items()}},
        key=[UUID] if by_key else [column.read, UUID],
    )
    sign = "-" if descending else ""
    ordered = rows.order_by(f"{sign}pk") if by_key else rows.order_by(f"{sign}{column.sort}", f"{sign}pk")
    if wanted.after is not None:
        ordered = ordered.filter(_beyond(column.sort, wanted.after, descending=descending))
    shown, cursor = cut(
        list(ordered[: wanted.limit + 1]),
        wanted.limit,
        lambda row: [row.pk] if by_key else [_spelled(_value(row, column.sort)), row.pk],
    )
    return Table(
        headings=[_heading(each, chosen, params) for each in columns],
        rows=shown,
        next_url=with_query(params, **{CURSOR: cursor}) if cursor else "",
        first_url=with_query(params, **{CURSOR: None}) if CURSOR in params else "",
        query=params.urlencode(),
    )


def with_query(params: QueryDict, **changes: str | None) -> str:
    """Returns a query string with some parameters set, and those taken away that are None."""
    changed = params.copy()
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
        else:
            changed[name] = value
    return f"?{changed.urlencode()}"


def _beyond(field: str, after: Sequence[Any], *, descending: bool) -> Q:
    way = "lt" if descending else "gt"
    if field == "pk":
        return Q(**{f"pk__{way}": after[0]})
    # The first condition lets the database begin at the right place of an index.
    return Q(**{f"{field}__{way}e": after[0]}) & (
        Q(**{f"{field}__{way}": after[0]}) | Q(**{f"pk__{way}": after[1]})
    )


def _value(row: Model, field: str) -> Any:
    value: Any = row
    for part in field.split("__"):
        value = getattr(value, part)
    return value


def _spelled(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _heading(column: Column, chosen: str, params: QueryDict) -> Heading:
    if not column.sort:
        return Heading(column, "", "")
    order = {column.name: "ascending", f"-{column.name}": "descending"}.get(chosen, "")
    turned = f"-{column.name}" if order == "ascending" else column.name
    return Heading(column, with_query(params, **{SORT: turned, CURSOR: None}), order)
